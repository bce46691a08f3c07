#!/usr/bin/env bash
# Ask the gateway with curl: regions of a photo, an edit as an image, and one as a stream of events.
#
#   export NPE_API_KEY=npe_...
#   examples/edit.sh portrait.png hair "#8a3ffc"
#
# Writes regions.png, edited.png and events.txt into the current folder. NPE_SERVER names another
# address than http://127.0.0.1:8080. Needs curl 7.76 or newer.
set -euo pipefail

photo=$1 region=$2 color=$3
server=${NPE_SERVER:-http://127.0.0.1:8080}

# On curl's command line everybody on this machine could read the key.
ask() {
  curl --silent --show-error --fail-with-body --header @<(echo "X-API-Key: $NPE_API_KEY") "$@"
}

ask "$server/v1/info"
echo

ask --form photo=@"$photo" "$server/v1/segment" --output regions.png
echo "wrote regions.png"

# What made the edit is in the headers: X-NPE-Metadata, X-NPE-Bundle, X-NPE-Request-Id.
ask --form photo=@"$photo" --form regions="$region" --form color="$color" --form format=png \
  "$server/v1/edit" --output edited.png --dump-header - | grep -i '^x-npe-'
echo "wrote edited.png"

# --no-buffer shows each event as it comes: `progress` with a preview, then `result` or `error`.
# Ctrl-C closes the connection, and the server gives the edit up.
ask --no-buffer --header "Accept: text/event-stream" \
  --form photo=@"$photo" --form regions="$region" --form strength=0.9 "$server/v1/edit" |
  tee events.txt | cut -c -60
grep -q '^event: result' events.txt
