"""Kafka's wire protocol, without sockets: frames, messages, record batches, compression, error codes.

`frames` has the headers of requests and responses, `messages` one module per message, `api_messages` the classes of
each API key, `errors` the error codes, `primitives` varints and ids. How message classes are described is in `schema`,
how they are decoded and encoded in `compiler`.
"""
