#!/usr/bin/env bash
# Verify an evidence bundle of Muniment with bash, coreutils, sed, grep and openssl 3. Needs no network and no Muniment.
#
#   bash verify.sh [--trust FILE] [--tsa FILE] [--since FILE]
#
#   --trust FILE   whose signatures count (C2SP tlog-policy): your own copy. Else the operator's proposal in here.
#   --tsa FILE     certificates (PEM) of the time-stamping authorities that you believe. Else those in here.
#   --since FILE   a checkpoint that you kept: the ledger must have grown from it.
#
# Run it where the bundle was unpacked. One line for each thing looked at: OK, FAIL, or NOTE for what was not.
# Exit status: 0 all that was looked at holds, 1 something does not, 2 it could not be run.
#
# Not looked at: the rules of access and whether times agree with each other. Muniment does that; the entries are plain
# JSON, and can be read.
set -u
export LC_ALL=C

trust='' tsa='' since='' failures=0 checks=0
while (($#)); do
  case $1 in
    --trust | --tsa | --since)
      if [[ $# -lt 2 || ! -r $2 ]]; then echo "$1 needs a file that can be read" >&2; exit 2; fi
      printf -v "${1#--}" '%s' "$(realpath -- "$2")"
      shift 2
      ;;
    *) echo "usage: bash verify.sh [--trust FILE] [--tsa FILE] [--since FILE]" >&2; exit 2 ;;
  esac
done
cd -- "$(dirname -- "${BASH_SOURCE[0]}")" || exit 2
for tool in sha256sum base64 od openssl sed grep sort cmp realpath mktemp; do
  command -v "$tool" >/dev/null || { echo "$tool is needed" >&2; exit 2; }
done
case $(openssl version) in
  'OpenSSL 3.'* | 'OpenSSL 4.'*) ;;
  *) echo "openssl 3 is needed; this is $(openssl version)" >&2; exit 2 ;;
esac
work=$(mktemp -d) || exit 2
trap 'rm -rf -- "$work"' EXIT

ok() { checks=$((checks + 1)); printf 'OK    %s\n' "$1"; }
fail() { checks=$((checks + 1)); failures=$((failures + 1)); printf 'FAIL  %s\n' "$1"; }
note() { printf 'NOTE  %s\n' "$1"; }
hex() { od -An -v -tx1 | tr -d ' \n'; }
raw() { local s=$1 out=''; while [[ $s ]]; do out+="\\x${s:0:2}"; s=${s:2}; done; printf '%b' "$out"; }
unbase64() { base64 -d 2>/dev/null; }
said() { date -u -d "@$1" +%FT%TZ 2>/dev/null || echo "$1 s"; }
number() { [[ $1 =~ ^(0|[1-9][0-9]{0,17})$ ]]; }
leaf() { { printf '\0'; cat -- "$1"; } | sha256sum | cut -c1-64; }
node() { raw "01$1$2" | sha256sum | cut -c1-64; }
# a hash in base64, as 64 hex digits in the variable `found`; false if it is not 32 bytes in their one spelling
hash_of() {
  [[ $1 =~ ^[A-Za-z0-9+/]{43}=$ ]] || return 1
  found=$(printf '%s' "$1" | unbase64 | hex)
  [[ ${#found} == 64 && $(raw "$found" | base64 -w0) == "$1" ]]
}

# ── a checkpoint: text, origin, size and root; into $work/NAME.text and the variables origin, size, root ──
read_checkpoint() { # FILE NAME
  # the signed text is everything up to the last empty line, which a checkpoint has only one of
  local lines
  [[ -f $1 ]] && ! grep -q '[[:cntrl:]]' "$1" || return 1
  mapfile -t lines <"$1"
  origin=${lines[0]-} size=${lines[1]-}
  [[ ${lines[3]-x} == '' && -n ${lines[4]-} && -n $origin ]] && number "$size" && hash_of "${lines[2]-}" || return 1
  root=$found
  printf '%s\n%s\n%s\n' "$origin" "$size" "${lines[2]}" >"$work/$2.text"
  # nothing but signature lines may follow, and the last one ends in a newline
  { cat "$work/$2.text"; echo; printf '%s\n' "${lines[@]:4}"; } | cmp -s - "$1" || return 1
  ! sed 1,4d "$1" | grep -qv $'^\xe2\x80\x94 [^ +]\\{1,\\} [A-Za-z0-9+/]\\{8,\\}=\\{0,2\\}$'
}

# ── the trust file ──
declare -A log_keys=() witness_keys=() members=() threshold=()
quorum=none
read_trust() { # FILE
  local word rest name key
  local -a words
  # such names alone: they are used as indexes below, and this file may be foreign
  if grep -v '^[[:blank:]]*#' "$1" | grep -q '[^A-Za-z0-9 	._/:@+=?&%,~-]'; then return 1; fi
  quorum=''
  while read -r word rest || [[ $word ]]; do
    read -r -a words <<<"$rest"
    case $word in
      '' | '#'*) ;;
      log) key=${words[0]-}; log_keys[$key]=1 ;;
      witness) witness_keys[${words[0]-?}]=${words[1]-} ;;
      group)
        [[ ${#words[@]} -gt 2 ]] || return 1
        name=${words[0]} members[$name]=${words[*]:2}
        case ${words[1]} in
          any) threshold[$name]=1 ;;
          all) threshold[$name]=$((${#words[@]} - 2)) ;;
          *) if ! number "${words[1]}" || ((words[1] < 1)); then return 1; fi; threshold[$name]=${words[1]} ;;
        esac
        ;;
      quorum) quorum=${words[0]-} ;;
      *) return 1 ;;
    esac
  done <"$1"
  [[ $quorum && ${#log_keys[@]} -gt 0 ]]
}

# vkey: name+id+base64(type || key); sets name, id, kind, key (hex). False for a key of another name or id
read_vkey() {
  local bytes
  name=${1%%+*} id=${1#*+} && id=${id%%+*}
  bytes=$(printf '%s' "${1#*+*+}" | unbase64 | hex)
  kind=${bytes:0:2} key=${bytes:2}
  [[ $name && $id =~ ^[0-9a-f]{8}$ && $kind ]] || return 1
  [[ $({ printf '%s\n' "$name"; raw "$bytes"; } | sha256sum | cut -c1-8) == "$id" ]]
}

# does this Ed25519 key (hex) sign this file? signature in hex
signed_by() { # KEY MESSAGE SIGNATURE
  raw "302a300506032b6570032100$1" >"$work/key"
  raw "$3" >"$work/signature"
  openssl pkeyutl -verify -pubin -keyform DER -inkey "$work/key" -rawin -in "$2" -sigfile "$work/signature" \
    >/dev/null 2>&1
}

# the signature line of a key in a note, in hex without its id; several lines by one key are refused
line_of() { # NOTE NAME ID
  local line bytes=''
  while IFS= read -r line; do
    line=$(printf '%s' "${line##* }" | unbase64 | hex)
    [[ ${line:0:8} == "$3" ]] || continue
    [[ -z $bytes ]] || return 1
    bytes=${line:8}
  done < <(sed 1,4d "$1" | grep -F $'\xe2\x80\x94 '"$2 ")
  printf '%s' "$bytes"
}

declare -A cosigned=()
# signatures under a checkpoint: by its log, and by witnesses; false if a known one does not verify, or no log signed
signatures() { # NOTE NAME
  local vkey who signature good=0
  cosigned=()
  for vkey in "${!log_keys[@]}"; do
    read_vkey "$vkey" || { fail "trust: the key of a log is not as it says: $vkey"; return 1; }
    [[ $name == "$origin" ]] || continue
    signature=$(line_of "$1" "$name" "$id") || { fail "$1: two signatures by one key"; return 1; }
    [[ $signature ]] || continue
    if [[ $kind != 01 ]]; then
      note "$1: the signature of type $kind by $name is not checked here; openssl cannot"
    elif [[ ${#signature} == 128 && ${#key} == 64 ]] && signed_by "$key" "$work/$2.text" "$signature"; then
      good=1
    else
      fail "$1: the signature by $name ($id) does not verify"
      return 1
    fi
  done
  for who in "${!witness_keys[@]}"; do
    read_vkey "${witness_keys[$who]}" || { fail "trust: the key of witness $who is not as it says"; return 1; }
    signature=$(line_of "$1" "$name" "$id") || { fail "$1: two cosignatures by $name"; return 1; }
    [[ $signature ]] || continue
    if [[ $kind != 04 ]]; then
      note "$1: the cosignature of type $kind by $name is not checked here, and does not count; openssl cannot"
      continue
    fi
    if [[ ${#signature} != 144 || ${#key} != 64 || ${signature:0:1} != [0-7] ]]; then
      fail "$1: the cosignature by $name ($id) has not the shape of one"
      return 1
    fi
    local time=$((16#${signature:0:16}))
    { printf 'cosignature/v1\ntime %s\n' "$time"; cat "$work/$2.text"; } >"$work/message"
    if signed_by "$key" "$work/message" "${signature:16}"; then
      [[ $time == 0 ]] || cosigned[$who]=$time
    else
      fail "$1: the cosignature by $name ($id) does not verify"
      return 1
    fi
  done
  [[ $good == 1 ]] && return
  fail "$1: no key that the trust file names of $origin has signed it"
  return 1
}

# does a witness or group count, by those in `cosigned`? Groups refer to what stands above them, never in circles
counts() { # NAME DEPTH
  local member sum=0 needed=${threshold[$1]-0}
  local -a inside
  [[ $1 == none || -n ${cosigned[$1]-} ]] && return
  [[ -n ${members[$1]-} && $2 -lt 70 ]] || return 1
  read -r -a inside <<<"${members[$1]}"
  for member in "${inside[@]}"; do counts "$member" $(($2 + 1)) && sum=$((sum + 1)); done
  ((sum >= needed))
}

# ── proofs. Source: RFC 9162, sections 2.1.3.2 and 2.1.4.2 ──
inclusion() { # ENTRY PROOF: is the entry in the tree of `head_size` entries with `head_root`, at `index`?
  local lines at=1 last sibling hash
  mapfile -t lines <"$2"
  [[ ${lines[0]-} == c2sp.org/tlog-proof@v1 && ${lines[1]-} == 'index '* ]] || return 1
  index=${lines[1]#index }
  number "$index" && ((index < head_size)) || return 1
  while ((++at)) && [[ -n ${lines[at]-} ]]; do hash_of "${lines[at]}" || return 1; done
  # what follows the empty line is the checkpoint of the bundle, byte for byte, and nothing else is anywhere
  { printf '%s\n' "${lines[@]:0:at}" ''; cat checkpoint; } | cmp -s - "$2" || return 1
  hash=$(leaf "$1") last=$((head_size - 1))
  local place=$index
  for sibling in "${lines[@]:2:at-2}"; do
    ((last > 0)) && hash_of "$sibling" || return 1
    if ((place % 2 == 1 || place == last)); then
      hash=$(node "$found" "$hash")
      while ((place % 2 == 0 && place > 0)); do place=$((place / 2)) last=$((last / 2)); done
    else
      hash=$(node "$hash" "$found")
    fi
    place=$((place / 2)) last=$((last / 2))
  done
  [[ $last == 0 && $hash == "$head_root" ]]
}

consistent() { # PROOF OLD_SIZE OLD_ROOT: did the tree of the checkpoint grow from the old one?
  local lines at=0 place last old new sibling
  mapfile -t lines <"$1"
  [[ ${lines[0]-} == "old $2" ]] || return 1
  while ((++at)) && [[ -n ${lines[at]-} ]]; do hash_of "${lines[at]}" || return 1; done
  { printf '%s\n' "${lines[@]:0:at}" ''; cat checkpoint; } | cmp -s - "$1" || return 1
  local hashes=("${lines[@]:1:at-1}")
  if (($2 == head_size)); then [[ ${#hashes[@]} == 0 && $3 == "$head_root" ]]; return; fi
  if (($2 == 0)); then [[ ${#hashes[@]} == 0 && $3 == "$(sha256sum </dev/null | cut -c1-64)" ]]; return; fi
  (($2 < head_size && ${#hashes[@]} > 0)) || return 1
  place=$(($2 - 1)) last=$((head_size - 1))
  while ((place % 2 == 1)); do place=$((place / 2)) last=$((last / 2)); done
  if (($2 & ($2 - 1))); then
    hash_of "${hashes[0]}" || return 1
    old=$found new=$found hashes=("${hashes[@]:1}")
  else
    old=$3 new=$3
  fi
  for sibling in "${hashes[@]}"; do
    ((last > 0)) && hash_of "$sibling" || return 1
    if ((place % 2 == 1 || place == last)); then
      old=$(node "$found" "$old") new=$(node "$found" "$new")
      while ((place % 2 == 0 && place > 0)); do place=$((place / 2)) last=$((last / 2)); done
    else
      new=$(node "$new" "$found")
    fi
    place=$((place / 2)) last=$((last / 2))
  done
  [[ $last == 0 && $old == "$3" && $new == "$head_root" ]]
}

# ── 1. the files are those that were exported ──
if [[ $(cat FORMAT 2>/dev/null) != muniment-evidence/1 ]]; then
  echo "this is no evidence bundle that I know" >&2
  exit 2
fi
if [[ $(find . -type l -o ! -type f ! -type d | head -n 1) ]]; then
  fail 'MANIFEST: there are links or devices among the files'
elif [[ $(find . -type f | sed 's|^\./||' | grep -v '^[A-Za-z0-9][A-Za-z0-9._/-]*$' | head -n 1) ]]; then
  fail 'MANIFEST: there are files with names that no bundle has'
elif ! sha256sum --check --strict --quiet MANIFEST >"$work/manifest" 2>&1; then
  fail "MANIFEST: $(head -n 1 "$work/manifest")"
elif [[ $(find . -type f ! -path ./MANIFEST | sed 's|^\./||' | sort) != "$(cut -c67- MANIFEST | sort)" ]]; then
  fail 'MANIFEST: it does not name exactly the files that are here'
else
  ok "MANIFEST: $(grep -c '' MANIFEST) files are as they were exported"
fi

# ── 2. the checkpoint, and whose word it is ──
if [[ -z $trust ]]; then
  trust=trust
  note "no --trust FILE: the operator's own proposal of whom to believe is used, which proves less"
fi
if ! read_trust "$trust"; then echo "the trust file $trust cannot be read" >&2; exit 2; fi
if ! read_checkpoint checkpoint head; then
  fail 'checkpoint: it is not a checkpoint'
  printf '\nDOES NOT VERIFY: %s of %s checks failed\n' "$failures" "$checks"
  exit 1
fi
head_origin=$origin head_size=$size head_root=$root
if signatures checkpoint head; then
  ok "checkpoint: $origin signed it, over $size entries"
  for who in "${!cosigned[@]}"; do
    ok "checkpoint: $who cosigned it at $(said "${cosigned[$who]}")"
  done
  if [[ $quorum == none ]]; then
    note 'operator-signed only: no witness has confirmed that others were shown the same ledger'
  elif counts "$quorum" 0; then
    ok "checkpoint: the quorum $quorum has cosigned it"
  else
    fail "checkpoint: the quorum $quorum has not cosigned it"
  fi
fi

# ── 3. every entry is in the ledger, and the ticket's follow each other ──
# keys are in order, so the envelope's own end the entry, whatever its data hold
envelope=',"log":"([^"]*)","prev":(null|"sha256:[0-9a-f]{64}"),"seq":(0|[1-9][0-9]{0,15})'
envelope+=',("sig":\{[^{}]*\},)?"ticket":"([^"]*)","type":"([^"]*)","v":1\}$'
ticket='' prev=null count=0 before=-1
check_entry() { # STEM
  if [[ ! -f $1.entry || ! -f $1.tlog-proof ]]; then fail "$1: entry or proof is missing"; return 1; fi
  if ! inclusion "$1.entry" "$1.tlog-proof"; then
    fail "$1.entry: its proof does not lead to the checkpoint"
    return 1
  fi
  entry=$(cat "$1.entry")
  if [[ $(grep -c '' "$1.entry") != 1 || $entry == *[[:cntrl:]]* || ! $entry =~ $envelope ]]; then
    fail "$1.entry: it is not an entry"
    return 1
  fi
  entry_log=${BASH_REMATCH[1]} entry_prev=${BASH_REMATCH[2]} entry_seq=${BASH_REMATCH[3]}
  entry_ticket=${BASH_REMATCH[5]} entry_type=${BASH_REMATCH[6]}
  if [[ $entry_log != "$head_origin" ]]; then fail "$1.entry: it belongs to the ledger $entry_log"; return 1; fi
}
while :; do
  stem=$(printf 'ticket/%04d' "$count")
  [[ -f $stem.entry || $count == 0 ]] || break
  if check_entry "$stem"; then
    [[ $ticket ]] || ticket=$entry_ticket
    if [[ $entry_ticket != "$ticket" ]]; then
      fail "$stem.entry: it is of $entry_ticket, not of $ticket"
    elif [[ $entry_seq != "$count" || $entry_prev != "$prev" ]] || ((index <= before)); then
      fail "$stem.entry: it does not follow the entry before it"
    else
      ok "$stem.entry: $entry_type is entry $count of $ticket, and $index of the ledger"
    fi
    before=$index last_type=$entry_type
  fi
  if [[ -f $stem.entry ]]; then prev="\"sha256:$(leaf "$stem.entry")\""; fi
  count=$((count + 1))
done
if [[ $(find ticket -name '*.entry' | grep -c '') != "$count" ]]; then fail 'ticket: entries are missing in between'; fi
for file in registry/*.entry; do
  [[ -e $file ]] || continue
  stem=${file%.entry}
  if check_entry "$stem"; then
    case $entry_ticket in
      policy | identity:* | target:* | delegation:* | erasure:* | keys)
        ok "$file: $entry_type of $entry_ticket is entry $index of the ledger"
        ;;
      *) fail "$file: it is of $entry_ticket, which is no registry" ;;
    esac
  fi
done

# ── 4. free texts are those that the entries commit to ──
for file in texts/*; do
  [[ -e $file ]] || continue
  stem=${file%.*} commitment=${file#texts/}
  commitment=${commitment%.*}
  case $file in
    *.salt) continue ;;
    *.txt) if [[ ! -f $stem.salt || $(cat "$stem.salt" "$file" | sha256sum | cut -c1-64) != "$commitment" ]]; then
      fail "$file: it is not the text that was committed to"
      continue
    fi ;;
    *.erased) note "$file: the text was erased; the entry stands" ;;
    *) fail "$file: it does not belong here"; continue ;;
  esac
  if grep -qF "\"sha256:$commitment\"" ticket/*.entry $(find registry -name '*.entry' 2>/dev/null); then
    [[ $file == *.erased ]] || ok "$file: an entry commits to it"
  else
    fail "$file: no entry of the ticket commits to it"
  fi
done

# ── 5. other checkpoints of the same ledger, and time-stamps over them ──
tie() { # STEM
  local stem=$1
  if ! read_checkpoint "$stem.checkpoint" tie || [[ $origin != "$head_origin" ]]; then
    fail "$stem.checkpoint: it is not a checkpoint of $head_origin"
    return 1
  fi
  signatures "$stem.checkpoint" tie || return 1
  if ! consistent "$stem.consistency" "$size" "$root"; then
    fail "$stem.consistency: it does not show that the ledger grew from there"
    return 1
  fi
  local who times=''
  for who in "${!cosigned[@]}"; do
    times+=", $who saw it at $(said "${cosigned[$who]}")"
  done
  ok "$stem.checkpoint: the ledger grew from $size to $head_size entries$times"
}
for file in anchors/*.checkpoint; do
  [[ -e $file ]] || continue
  stem=${file%.checkpoint}
  tie "$stem" || continue
  for stamp in "$stem".*.tsr; do
    [[ -e $stamp ]] || continue
    roots=$tsa
    if [[ -z $roots && -f anchors/certificates.pem ]]; then
      roots=anchors/certificates.pem
      note "$stamp: no --tsa FILE: the operator's own copy of the authority's certificates is used"
    fi
    if [[ -z $roots ]]; then
      note "$stamp: not checked; --tsa FILE names the authority's certificates"
    elif openssl ts -verify -data "$work/tie.text" -in "$stamp" -CAfile "$roots" -untrusted "$roots" >/dev/null 2>&1; then
      ok "$stamp: stamped at $(openssl ts -reply -in "$stamp" -text 2>/dev/null | sed -n 's/^Time stamp: //p')"
    else
      fail "$stamp: it is not a time-stamp of this checkpoint by an authority in $roots"
    fi
  done
done
if [[ -f since.checkpoint ]]; then tie since; fi
if [[ $since ]]; then
  if ! read_checkpoint "$since" mine || [[ $origin != "$head_origin" ]]; then
    fail "$since: it is not a checkpoint of $head_origin"
  elif [[ $size == "$head_size" && $root == "$head_root" ]]; then
    ok "$since: it is the checkpoint of this bundle"
  elif cmp -s <(sed -n 1,3p "$since") <(sed -n 1,3p since.checkpoint 2>/dev/null); then
    ok "$since: it is the checkpoint that the ledger is shown to have grown from"
  else
    fail "$since: the bundle does not show that the ledger grew from it; ask for one exported with --since"
  fi
fi

echo
case ${last_type-} in
  request-closed/1 | request-denied/1 | request-withdrawn/1 | request-lapsed/1) ;;
  *) note "$ticket had not ended: whether entries after these were left out is not shown" ;;
esac
note 'not looked at here: whether the rules of access were kept, and whether the times in the entries are true'
if ((failures)); then
  printf 'DOES NOT VERIFY: %s of %s checks failed\n' "$failures" "$checks"
  exit 1
fi
printf 'VERIFIES: %s checks hold for %s, %s entries, in %s\n' "$checks" "$ticket" "$count" "$head_origin"
