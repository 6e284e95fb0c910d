#!/usr/bin/env bash
# Every page in every state, and every mail's HTML part, by the Nu HTML checker: no error, and no warning but these.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}

# Cells that are cards on a phone need their roles, or Safari forgets what they are (app/src/ui/components/table.rs).
roles='The “(cell|row|rowgroup|rowheader|columnheader)” role is unnecessary for element .*'
# Outlook lays out by attributes.
mails='The “(align|border|cellpadding|cellspacing|valign|width)” attribute on the “(table|td)” element is obsolete\. .*'

java -jar end2end/node_modules/vnu-jar/build/dist/vnu.jar --Werror --filterpattern "$roles|$mails" "$target"/gallery/*.html
