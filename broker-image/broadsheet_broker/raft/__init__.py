"""KRaft: the replicated log that holds the cluster's metadata (KIP-595, KIP-630, KIP-853).

`machine.Raft` decides: `step(message, now) -> effects`, without files, sockets or clock. `node.RaftNode` carries its
effects out: it owns the log of `__cluster_metadata-0`, the `quorum-state` file and the snapshots, gathers appends so
that many share one fsync, and passes a listener what is committed.
"""
