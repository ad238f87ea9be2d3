#!/bin/sh
# Fills the fuzzers' corpora from the golden files. Corpora are not committed: the goldens are.
set -eu
cd "$(dirname "$0")"
for target in envelope body frame record checkpoint proof succession; do mkdir -p "corpus/$target"; done
cp ../golden/envelope/*.json corpus/envelope/
cp ../golden/frame/*.frame corpus/frame/
cp ../golden/record/*.json corpus/record/
cp ../golden/audit/checkpoint corpus/checkpoint/
cp ../golden/audit/*.tlog-proof corpus/proof/
cp ../golden/succession/*.keys corpus/succession/
# The last byte says what kind of body it is.
for file in ../golden/job/*.json; do { cat "$file"; printf '\0'; } > "corpus/body/job-$(basename "$file")"; done
for file in ../golden/batch/*.json; do { cat "$file"; printf '\1'; } > "corpus/body/batch-$(basename "$file")"; done
