"""Load for a service, and what it answers: open-loop arrivals, latency histograms, faults by schedule, a live view."""
