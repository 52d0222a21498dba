#!/bin/sh
# usage: fetch_sources.sh FOLDER
# Brings the sources of sources.lock into FOLDER/micropython, with mbedTLS at lib/mbedtls. They come through apt from
# this machine's own Debian archive, suite trixie; apt checks the archive's signatures, then sources.lock decides.
# Needs no root, installs nothing, leaves the machine's own apt lists alone. If the sources cannot be had: one line
# that says why on standard error, the same in FOLDER/unavailable, and exit code 4.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
lock=$here/sources.lock
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
mkdir -p "$1"
out=$(cd "$1" && pwd)

unavailable() {
  echo "$1" | tee "$out/unavailable" >&2
  exit 4
}

if cmp -s "$lock" "$out/sources.lock"; then
  rm -f "$out/unavailable"
  exit 0
fi
rm -rf "$out/apt" "$out/micropython"

command -v apt-get >/dev/null && [ -r "$keyring" ] ||
  unavailable "MicroPython's sources come through apt with Debian's archive keys: not a Debian machine"
archive=$(cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list /etc/apt/sources.list 2>/dev/null |
  tr ' ' '\n' | grep -E '^(https?|file|mirror)[^ ]*/debian/?$' | head -n 1) || true
[ -n "$archive" ] || unavailable "MicroPython's sources: apt of this machine names no Debian archive"

mkdir -p "$out/apt/lists/partial" "$out/apt/cache/archives/partial" "$out/apt/files"
echo "deb-src [signed-by=$keyring] $archive trixie main" >"$out/apt/sources.list"
private() {
  apt-get -qq -o Dir::Etc::sourcelist="$out/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::State::lists="$out/apt/lists" -o Dir::Cache="$out/apt/cache" -o APT::Sandbox::User="$(id -un)" \
    -o APT::Update::Error-Mode=any -o Acquire::Retries=1 -o Acquire::http::Timeout=30 -o Acquire::Languages=none "$@"
}
private update >"$out/apt/log" 2>&1 ||
  unavailable "MicroPython's sources: Debian's archive cannot be read: $(tail -n 1 "$out/apt/log")"

wanted=$(grep -v '^#' "$lock")
for package in $(echo "$wanted" | cut -d' ' -f1); do
  (cd "$out/apt/files" && private source --download-only "$package") >"$out/apt/log" 2>&1 ||
    unavailable "MicroPython's sources: $package does not come: $(tail -n 1 "$out/apt/log")"
done
echo "$wanted" | while read -r package file digest; do
  [ -f "$out/apt/files/$file" ] || unavailable \
    "MicroPython's sources: Debian has $(cd "$out/apt/files" && echo "$package"_*.dsc) now, sources.lock names $file"
  echo "$digest  $out/apt/files/$file" | sha256sum --check --status ||
    unavailable "MicroPython's sources: $file is not the one of sources.lock"
  mkdir -p "$out/apt/$package"
  tar -C "$out/apt/$package" --strip-components=1 -xf "$out/apt/files/$file" ||
    unavailable "MicroPython's sources: $file cannot be unpacked: are xz-utils and bzip2 installed?"
done || exit 4

tree=$out/apt/micropython
rm -rf "$tree/lib/mbedtls"
mkdir "$tree/lib/mbedtls"
mv "$out/apt/mbedtls/include" "$out/apt/mbedtls/library" "$tree/lib/mbedtls/"
mkdir -p "$tree/lib/micropython-lib"
touch "$tree/lib/micropython-lib/README.md" # the build asks for it; nothing of it is used
mv "$tree" "$out/micropython"
rm -rf "$out/apt"
cp "$lock" "$out/sources.lock" # last: marks the tree as whole
rm -f "$out/unavailable"
