"""A code as a service: answers on time although a worker is slow or dead."""
