"""Messages and stubs of the `creditd.v1` API, generated from the protos.

`make generate` writes everything here but this file; change the protos instead.
"""
