"""Every message of Kafka 4.3's protocol and logs, one module each: requests, responses, metadata records, coordinator
records, control records, the consumer protocol.

    from broadsheet_broker.wire.messages.metadata_request import MetadataRequest

    request, end = MetadataRequest.decode(view, version, offset)
    buffers = response.encode(version)

The modules are written by `tools/messages/generate.py` from descriptions that `tools/messages/extract.py` takes out of
Apache Kafka's jars: names, types, versions, tags, defaults. They hold classes only, one line per field, for people and
for mypy. Straight-line decoders and encoders are compiled from them when a message is first used in a version.

Why they are not generated as source, measured with the 24 messages of twelve APIs that a producer and a group of
consumers use, on two cores, Python 3.11, byte code cached:

    ==============================  ==========================  ==============================
    what                            all code generated          compiled on first use (this)
    ==============================  ==========================  ==============================
    lines in the tree, 24 messages  24,000 and the classes      the classes: 690
    bytes of byte code              970,000 and the classes     61,000
    first decode and encode         14 ms (3 classes + 11)      23 ms (3 classes + 20)
    the same, no byte code cached   100 ms                      29 ms
    resident memory                 2.3 MB                      1.8 MB
    per message                     the same code               the same code
    ==============================  ==========================  ==============================

The three messages that were compared first (ProduceRequest, FetchResponse, MetadataResponse, in one version each) are
alike: 3 ms against 6 ms with byte code cached, 40 ms against 11 ms without, 7,000 lines against 150. A container image
with a read-only root has byte code only if its build made it. Compiling costs half a millisecond per function, is
spent on the versions that clients really use, and only for metadata records before the broker listens.

Microseconds per message, `tools/messages/measure.py`:

    ====================================  ======  ======
    message                               decode  encode
    ====================================  ======  ======
    ProduceRequest v9, 1 partition           1.8     1.0
    ProduceResponse v9, 1 partition          1.5     0.6
    FetchRequest v12, 100 partitions          20      11
    FetchResponse v17, 1 partition           2.0     1.4
    MetadataResponse v12, 100 partitions      90      44
    ====================================  ======  ======
"""
