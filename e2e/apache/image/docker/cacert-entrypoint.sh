#!/bin/bash
# Stands where the entry point of the official image's Java stands, and does as much: it runs the command.
exec "$@"
