"""creditd: a gRPC entitlement and credit-burndown service.

The version below is the only place that states it: the package metadata, `creditd --version`, the image
and the chart take it from here.
"""

__version__ = "0.1.0"
