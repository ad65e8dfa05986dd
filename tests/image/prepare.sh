#!/usr/bin/env bash
# What the image test needs beside Python, from Debian: a builder without a daemon, and a way to make a base image.
set -euo pipefail
needed=()
command -v buildah >/dev/null || needed+=(buildah)
command -v debootstrap >/dev/null || needed+=(debootstrap)
if ((${#needed[@]})); then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${needed[@]}"
fi
