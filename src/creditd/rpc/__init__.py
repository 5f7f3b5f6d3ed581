"""creditd's gRPC surface: servicers, what surrounds every call, and the servers that host them."""
