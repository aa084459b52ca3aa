#!/bin/bash
# The broker's health check. Once it has answered one of Kafka's own tools, that it takes connections is enough: a tool
# costs a Java start, two seconds of a processor, each time. /tmp is new whenever the container starts.
set -euo pipefail
exec 3<> /dev/tcp/127.0.0.1/9092
[ -e /tmp/answered ] && exit
# Docker ends only this script when its time is up; the tool would go on beside the next one.
KAFKA_HEAP_OPTS=-Xmx64m timeout -s KILL 55 /opt/kafka/bin/kafka-broker-api-versions.sh --bootstrap-server localhost:9092 > /dev/null
touch /tmp/answered
