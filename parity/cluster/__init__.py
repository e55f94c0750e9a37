"""SLURM: what is submitted, and what runs in a job."""
