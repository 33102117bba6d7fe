#!/bin/bash
# Pins the Dockerfile's base to what its tag means today, by asking the registry.
#
#   docker/renew_base.sh [NAME:TAG]    another tag than the one there
#
# Needs skopeo, or docker with buildx.
set -euo pipefail

FILE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/Dockerfile

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; }

case ${1:-} in -h | --help) usage && exit 0 ;; esac
image=${1:-$(sed -n 's/^ARG PYTHON_IMAGE=\(.*\)@sha256:.*/\1/p' "$FILE")}
if command -v skopeo >/dev/null; then
    digest=$(skopeo inspect --format '{{.Digest}}' "docker://$image")
else
    digest=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$image")
fi
[[ $digest =~ ^sha256:[0-9a-f]{64}$ ]] || { echo "error: the registry has no digest for $image: '$digest'" >&2 && exit 1; }
sed -i "s|^ARG PYTHON_IMAGE=.*|ARG PYTHON_IMAGE=$image@$digest|" "$FILE"
echo "$image@$digest"
