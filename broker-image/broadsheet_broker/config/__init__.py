"""Every Kafka property that we honour, in one table (`KEYS`, `TOPIC_KEYS`): type, default, allowed values, scope.

`load_config` reads a server.properties, the environment of the official image and overrides; `BrokerConfig` gives the
values; `validate_topic_configs` and `effective_topic_configs` are what the controller and the logs need for topics;
`describe` makes the rows of DescribeConfigs. Properties of our own begin with `broadsheet.`.
"""

from broadsheet_broker.config.broker import BrokerConfig
from broadsheet_broker.config.describe import Entry, describe_broker, describe_topic
from broadsheet_broker.config.key import (
    CLUSTER_WIDE,
    PER_BROKER,
    READ_ONLY,
    ConfigError,
    Key,
    Kind,
    Value,
    whole_number,
)
from broadsheet_broker.config.listeners import Listener, Voter
from broadsheet_broker.config.load import load_config, log_format, with_local_defaults
from broadsheet_broker.config.properties import parse_overrides, parse_properties
from broadsheet_broker.config.table import KEYS, REFUSED, TOPIC_KEYS
from broadsheet_broker.config.topics import Setting, Source, effective_topic_configs, validate_topic_configs

__all__ = [
    "CLUSTER_WIDE",
    "KEYS",
    "PER_BROKER",
    "READ_ONLY",
    "REFUSED",
    "TOPIC_KEYS",
    "BrokerConfig",
    "ConfigError",
    "Entry",
    "Key",
    "Kind",
    "Listener",
    "Setting",
    "Source",
    "Value",
    "Voter",
    "describe_broker",
    "describe_topic",
    "effective_topic_configs",
    "load_config",
    "log_format",
    "parse_overrides",
    "parse_properties",
    "validate_topic_configs",
    "whole_number",
    "with_local_defaults",
]
