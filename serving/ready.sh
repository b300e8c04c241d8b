#!/usr/bin/env bash
# Ends with 0 where every model named on the command line has an AVAILABLE version. TF Serving answers 200 for a model in any
# state, so the state itself is read; and its image has no curl, so bash asks.
for model in "$@"; do
  exec 3<>"/dev/tcp/127.0.0.1/${REST_API_PORT:-8501}" || exit 1
  printf 'GET /v1/models/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$model" >&3
  answer=$(timeout 2 cat <&3)
  exec 3>&-
  if ! [[ $answer =~ \"state\":\ *\"AVAILABLE\" ]]; then
    echo "$model is not available: ${answer##*$'\r\n'}"
    exit 1
  fi
done
