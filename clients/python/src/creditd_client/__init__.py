"""Client of creditd: its services and messages are in `creditd_client.v1`; here is what takes their errors apart."""

from creditd_client.errors import ErrorDetails, Violation, error_details

__all__ = ["ErrorDetails", "Violation", "error_details"]
