#!/bin/sh
# Start MinIO with further targets RAW1 ... RAW7, whose settings are those of RAW: as many as PROVISIONER_NOTIFICATION_TARGETS
# says, and those that were there before (docs/decisions/0048-notification-targets.md).
set -eu
targets=${PROVISIONER_NOTIFICATION_TARGETS:-1}
settings=$(env | sed -n 's/^\(MINIO_NOTIFY_AMQP_[A-Z_]*\)_RAW=.*/\1/p')
for number in 1 2 3 4 5 6 7; do
  [ "$number" -lt "$targets" ] || [ -d "${MINIO_NOTIFY_AMQP_QUEUE_DIR_RAW:-}/minio-amqp-RAW$number" ] || continue
  for setting in $settings; do
    eval "export ${setting}_RAW${number}=\"\$${setting}_RAW\""
  done
  # Memory is reserved for so many events
  export "MINIO_NOTIFY_AMQP_QUEUE_LIMIT_RAW${number}=$((${MINIO_NOTIFY_AMQP_QUEUE_LIMIT_RAW:-100000} / targets))"
done
exec minio "$@"
