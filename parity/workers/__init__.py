"""What runs in the process of a worker; nothing here imports torch, which comes with the network a worker is sent."""
