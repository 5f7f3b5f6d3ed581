"""Messages, stubs and servicers of the `creditd.v1` API, generated from protos/.

`make proto` writes everything here but this file; change the protos instead.
"""
