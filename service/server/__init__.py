"""The process that answers: sockets, the HTTP protocol, start and end."""
