#!/bin/sh
# The directories of a node's volumes, and its pod network of a node: 10.244.N.0/24, where N is the last number of the node's address. Every node knows by that
# where the pods of all others are, so no daemon has to ask the API server.
set -eu
address=$(ip -4 -o addr show dev eth0 | sed 's/.* inet \([0-9.]*\).*/\1/')
mkdir -p -m 0777 /var/volumes/0 /var/volumes/1 /var/volumes/2 /var/volumes/3 /var/volumes/4 /var/volumes/5 /var/volumes/6 /var/volumes/7
number=${address##*.} network=${address%.*}
mkdir -p /etc/cni/net.d
cat >/etc/cni/net.d/10-bridge.conflist <<END
{"cniVersion": "1.0.0", "name": "bridge", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.$number.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
for other in $(seq 2 60); do
  [ "$other" = "$number" ] || ip route replace "10.244.$other.0/24" via "$network.$other"
done
