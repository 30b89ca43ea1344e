"""What the doctor looks at: this machine, the service, and Redis."""
