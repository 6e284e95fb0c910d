#!/usr/bin/env bash
# Takes the pictures of the screens anew, and writes down anew what is said of every page, wherever either has changed.
set -euo pipefail
cd "$(dirname "$0")/../.."

mkdir -p app/help/pictures docs/pictures end2end/aria_snapshots
# It fails where one is new, and that is what it is run for; what is wrong besides, the second run says.
(cd end2end && npx playwright test --project pictures --project gallery --no-deps --update-snapshots) || true
# Few colours are enough for screens, and a third of the bytes. What has few already stays as it is.
for picture in app/help/pictures/*.png docs/pictures/*.png; do
    [[ $(od -An -tu1 -j25 -N1 "$picture" | tr -d ' ') == 3 ]] || pngquant --force --ext .png --speed 1 --nofs --strip 32 "$picture"
done
cd end2end && npx playwright test --project pictures --project gallery --no-deps
