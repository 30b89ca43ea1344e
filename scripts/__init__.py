"""What is done to the package from outside: it is verified, and what is released is counted."""
