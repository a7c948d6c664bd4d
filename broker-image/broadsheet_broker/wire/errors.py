"""Kafka's error codes, and the two exceptions of the wire.

Names and codes are those of Kafka 4.3 (org.apache.kafka.common.protocol.Errors): clients act on them, and people
search for them. The messages are our own.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class ErrorCode(IntEnum):
    """What an answer says went wrong. `message` is for people; `retriable` says whether clients try again."""

    message: str
    retriable: bool

    def __new__(cls, code: int, message: str, retriable: bool = False) -> ErrorCode:
        member = int.__new__(cls, code)
        member._value_ = code
        member.message = message
        member.retriable = retriable
        return member

    UNKNOWN_SERVER_ERROR = -1, "The broker failed in a way it did not expect; its log has the reason."
    NONE = 0, ""
    OFFSET_OUT_OF_RANGE = 1, "The partition has no such offset."
    CORRUPT_MESSAGE = 2, "A record batch fails its checksum or is malformed, or lacks a key on a compacted topic.", True
    UNKNOWN_TOPIC_OR_PARTITION = 3, "This broker has no such topic or partition.", True
    INVALID_FETCH_SIZE = 4, "The fetch size is not valid."
    LEADER_NOT_AVAILABLE = 5, "The partition has no leader at the moment.", True
    NOT_LEADER_OR_FOLLOWER = 6, "This broker does not lead the partition, or has no replica of it.", True
    REQUEST_TIMED_OUT = 7, "The request did not finish in its time.", True
    BROKER_NOT_AVAILABLE = 8, "The broker is not available."
    REPLICA_NOT_AVAILABLE = 9, "The replica is not available on this broker.", True
    MESSAGE_TOO_LARGE = 10, "A record batch is larger than the topic allows."
    STALE_CONTROLLER_EPOCH = 11, "The request comes from a controller of an older epoch."
    OFFSET_METADATA_TOO_LARGE = 12, "The metadata string of an offset commit is too long."
    NETWORK_EXCEPTION = 13, "The connection broke before the answer came.", True
    COORDINATOR_LOAD_IN_PROGRESS = 14, "The coordinator still reads its log.", True
    COORDINATOR_NOT_AVAILABLE = 15, "No coordinator is available at the moment.", True
    NOT_COORDINATOR = 16, "This broker is not the coordinator of that id.", True
    INVALID_TOPIC_EXCEPTION = 17, "The topic name is not valid, or the topic may not be used so."
    RECORD_LIST_TOO_LARGE = 18, "A record batch is larger than a segment of the topic."
    NOT_ENOUGH_REPLICAS = 19, "Fewer replicas are in sync than min.insync.replicas; nothing was written.", True
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20, "Written, but fewer replicas than min.insync.replicas have it.", True
    INVALID_REQUIRED_ACKS = 21, "acks must be 0, 1 or all (-1)."
    ILLEGAL_GENERATION = 22, "The group is in another generation."
    INCONSISTENT_GROUP_PROTOCOL = 23, "The member has no protocol type or assignor in common with its group."
    INVALID_GROUP_ID = 24, "The group id is not valid."
    UNKNOWN_MEMBER_ID = 25, "The group has no such member."
    INVALID_SESSION_TIMEOUT = (
        26,
        "The session timeout is outside group.min.session.timeout.ms and group.max.session.timeout.ms.",
    )
    REBALANCE_IN_PROGRESS = 27, "The group rebalances; the member must join again."
    INVALID_COMMIT_OFFSET_SIZE = 28, "An offset commit is too large."
    TOPIC_AUTHORIZATION_FAILED = 29, "Not authorized for the topic."
    GROUP_AUTHORIZATION_FAILED = 30, "Not authorized for the group."
    CLUSTER_AUTHORIZATION_FAILED = 31, "Not authorized for the cluster."
    INVALID_TIMESTAMP = 32, "A record's timestamp is outside what the topic accepts."
    UNSUPPORTED_SASL_MECHANISM = 33, "The broker does not have that SASL mechanism enabled."
    ILLEGAL_SASL_STATE = 34, "The request does not fit the state of authentication."
    UNSUPPORTED_VERSION = 35, "The broker does not serve that version of the request."
    TOPIC_ALREADY_EXISTS = 36, "A topic of that name exists."
    INVALID_PARTITIONS = 37, "The number of partitions is not valid."
    INVALID_REPLICATION_FACTOR = 38, "The replication factor is below 1 or above the number of brokers."
    INVALID_REPLICA_ASSIGNMENT = 39, "The assignment of replicas is not valid."
    INVALID_CONFIG = 40, "The configuration is not valid."
    NOT_CONTROLLER = 41, "This node is not the active controller.", True
    INVALID_REQUEST = 42, "The request contradicts itself or lacks something."
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43, "The stored message format does not support the request."
    POLICY_VIOLATION = 44, "The request breaks a policy of the cluster."
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45, "The producer's sequence numbers have a gap."
    DUPLICATE_SEQUENCE_NUMBER = 46, "The producer sent these sequence numbers before."
    INVALID_PRODUCER_EPOCH = 47, "The producer's epoch is older than the one known."
    INVALID_TXN_STATE = 48, "The transaction is in a state that does not allow this."
    INVALID_PRODUCER_ID_MAPPING = 49, "The producer id does not belong to the transactional id."
    INVALID_TRANSACTION_TIMEOUT = 50, "The transaction timeout is above transaction.max.timeout.ms."
    CONCURRENT_TRANSACTIONS = 51, "Another operation on the same transaction is still going on.", True
    TRANSACTION_COORDINATOR_FENCED = 52, "The markers come from a transaction coordinator that was replaced."
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53, "Not authorized for the transactional id."
    SECURITY_DISABLED = 54, "The broker has no authorization configured."
    OPERATION_NOT_ATTEMPTED = 55, "Not tried, because another part of the request failed."
    KAFKA_STORAGE_ERROR = 56, "The disk failed, and the log directory is offline.", True
    LOG_DIR_NOT_FOUND = 57, "The broker has no such log directory."
    SASL_AUTHENTICATION_FAILED = 58, "Authentication failed."
    UNKNOWN_PRODUCER_ID = 59, "The broker remembers nothing of that producer id."
    REASSIGNMENT_IN_PROGRESS = 60, "The partition is being reassigned."
    DELEGATION_TOKEN_AUTH_DISABLED = 61, "Delegation tokens are not enabled."
    DELEGATION_TOKEN_NOT_FOUND = 62, "There is no such delegation token."
    DELEGATION_TOKEN_OWNER_MISMATCH = 63, "The principal is neither owner nor renewer of the token."
    DELEGATION_TOKEN_REQUEST_NOT_ALLOWED = 64, "Delegation tokens may not be managed over this connection."
    DELEGATION_TOKEN_AUTHORIZATION_FAILED = 65, "Not authorized for the delegation token."
    DELEGATION_TOKEN_EXPIRED = 66, "The delegation token has expired."
    INVALID_PRINCIPAL_TYPE = 67, "The type of the principal is not supported."
    NON_EMPTY_GROUP = 68, "The group still has members."
    GROUP_ID_NOT_FOUND = 69, "There is no such group."
    FETCH_SESSION_ID_NOT_FOUND = 70, "The broker has no such fetch session.", True
    INVALID_FETCH_SESSION_EPOCH = 71, "The fetch session is at another epoch.", True
    LISTENER_NOT_FOUND = 72, "The leader has no listener of the name that the request came in by.", True
    TOPIC_DELETION_DISABLED = 73, "Deleting topics is switched off."
    FENCED_LEADER_EPOCH = 74, "The request has an older leader epoch than the broker.", True
    UNKNOWN_LEADER_EPOCH = 75, "The request has a newer leader epoch than the broker.", True
    UNSUPPORTED_COMPRESSION_TYPE = 76, "The codec is not supported in this version of the request."
    STALE_BROKER_EPOCH = 77, "The broker registered again since."
    OFFSET_NOT_AVAILABLE = 78, "The leader is new, and its high watermark is not known yet.", True
    MEMBER_ID_REQUIRED = 79, "The member must join again with the member id it was given."
    PREFERRED_LEADER_NOT_AVAILABLE = 80, "The preferred leader is not available.", True
    GROUP_MAX_SIZE_REACHED = 81, "The group has as many members as it may have."
    FENCED_INSTANCE_ID = 82, "Another member has taken this group.instance.id."
    ELIGIBLE_LEADERS_NOT_AVAILABLE = 83, "No replica that may lead is available.", True
    ELECTION_NOT_NEEDED = 84, "The partition has the right leader already.", True
    NO_REASSIGNMENT_IN_PROGRESS = 85, "The partition is not being reassigned."
    GROUP_SUBSCRIBED_TO_TOPIC = 86, "The group still subscribes to the topic."
    INVALID_RECORD = 87, "A record failed validation."
    UNSTABLE_OFFSET_COMMIT = 88, "A transaction that commits offsets of the partition is still open.", True
    THROTTLING_QUOTA_EXCEEDED = 89, "The quota is used up.", True
    PRODUCER_FENCED = 90, "A newer producer has the same transactional id."
    RESOURCE_NOT_FOUND = 91, "There is no such resource."
    DUPLICATE_RESOURCE = 92, "The request names a resource twice."
    UNACCEPTABLE_CREDENTIAL = 93, "The credential does not meet the criteria."
    INCONSISTENT_VOTER_SET = 94, "The sender or the receiver is not a voter as the other sees it."
    INVALID_UPDATE_VERSION = 95, "The version of the update is not valid."
    FEATURE_UPDATE_FAILED = 96, "The feature could not be updated."
    PRINCIPAL_DESERIALIZATION_FAILURE = 97, "The principal of a forwarded request could not be read."
    SNAPSHOT_NOT_FOUND = 98, "There is no such snapshot."
    POSITION_OUT_OF_RANGE = 99, "The snapshot has no such position."
    UNKNOWN_TOPIC_ID = 100, "This broker has no topic of that id.", True
    DUPLICATE_BROKER_REGISTRATION = 101, "Another broker is registered under this id."
    BROKER_ID_NOT_REGISTERED = 102, "No broker is registered under that id."
    INCONSISTENT_TOPIC_ID = 103, "The log has another topic id than the request.", True
    INCONSISTENT_CLUSTER_ID = 104, "The request is for another cluster."
    TRANSACTIONAL_ID_NOT_FOUND = 105, "There is no such transactional id."
    FETCH_SESSION_TOPIC_ID_ERROR = 106, "The fetch session mixes requests with and without topic ids.", True
    INELIGIBLE_REPLICA = 107, "A replica of the new ISR may not be in it."
    NEW_LEADER_ELECTED = 108, "The partition was changed, and has another leader now."
    OFFSET_MOVED_TO_TIERED_STORAGE = 109, "The offset is in tiered storage."
    FENCED_MEMBER_EPOCH = 110, "The member's epoch is fenced; it must give up its partitions and join again."
    UNRELEASED_INSTANCE_ID = 111, "Another member of the group still uses this instance id."
    UNSUPPORTED_ASSIGNOR = 112, "The group does not support the assignor."
    STALE_MEMBER_EPOCH = 113, "The member's epoch is behind; it must heartbeat first."
    MISMATCHED_ENDPOINT_TYPE = 114, "The request went to an endpoint of another type."
    UNSUPPORTED_ENDPOINT_TYPE = 115, "The type of the endpoint is not supported."
    UNKNOWN_CONTROLLER_ID = 116, "There is no such controller."
    UNKNOWN_SUBSCRIPTION_ID = 117, "The telemetry subscription is unknown or out of date."
    TELEMETRY_TOO_LARGE = 118, "The telemetry is larger than the broker takes."
    INVALID_REGISTRATION = 119, "The controller does not accept the registration."
    TRANSACTION_ABORTABLE = 120, "The transaction must be aborted; the transactional id stays usable."
    INVALID_RECORD_STATE = 121, "The record is in a state that cannot be acknowledged so."
    SHARE_SESSION_NOT_FOUND = 122, "The broker has no such share session.", True
    INVALID_SHARE_SESSION_EPOCH = 123, "The share session is at another epoch.", True
    FENCED_STATE_EPOCH = 124, "The state epoch of the share group is another one."
    INVALID_VOTER_KEY = 125, "The voter's key is not that of the receiver."
    DUPLICATE_VOTER = 126, "The voter is one already."
    VOTER_NOT_FOUND = 127, "There is no such voter."
    INVALID_REGULAR_EXPRESSION = 128, "The regular expression is not valid."
    REBOOTSTRAP_REQUIRED = 129, "The client's view of the cluster is out of date; it must bootstrap again."
    STREAMS_INVALID_TOPOLOGY = 130, "The topology is not valid."
    STREAMS_INVALID_TOPOLOGY_EPOCH = 131, "The epoch of the topology is not valid."
    STREAMS_TOPOLOGY_FENCED = 132, "The epoch of the topology is behind."
    SHARE_SESSION_LIMIT_REACHED = 133, "The broker has as many share sessions as it may have.", True


class ProtocolError(Exception):
    """Bytes that are not what they should be: the connection they came on is closed."""


class KafkaError(Exception):
    """A refusal that reaches the client as an error code in an answer."""

    def __init__(self, code: ErrorCode, message: str | None = None) -> None:
        self.code = code
        self.message = code.message if message is None else message
        super().__init__(f"{code.name}: {self.message}")

    def again(self) -> Self:
        """The same error without its history.

        An exception holds the frames that it passed, and they hold the request that they worked on. So where an error
        is kept (why a log is offline, why a reign ended), keep a copy, and raise a copy of that: `raise kept` would add
        the frames of every request that it refuses to those of all requests before.
        """
        copy = type(self).__new__(type(self), *self.args)
        copy.__dict__.update(self.__dict__)
        return copy


class CorruptRecordError(KafkaError):
    """Bytes that are no valid record batch."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.CORRUPT_MESSAGE, message)
