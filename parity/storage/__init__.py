"""What lies on disks: files that appear whole or not at all, and locks on folders."""
