"""The canary: produces and consumes over every broker of a cluster, and measures what a client would see."""
