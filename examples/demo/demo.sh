#!/usr/bin/env bash
# The main job on real peers: psql through the gateway, for a task. Each step is checked; one that does not happen fails the
# demonstration. DEMO_EXIT=1 ends it after the last step; without, it stays up and says how to connect.
set -euo pipefail
cd "$(dirname "$0")/../.."
unset "${!TASKGATE_@}" # what is set for a gateway of one's own is not this one's
echo "demo: installs the Debian packages postgresql-15, postgresql-client, openssh-server and openssh-client if they are missing, and fetches Go modules"
echo "demo: builds gateway and guards, which takes some minutes the first time"
.ci/install
make -s build
root=$PWD
dir=$(mktemp -d)
chmod 755 "$dir"
pids=()
fifo=$dir/stdin
mkfifo "$fifo"
finish() {
  exec 9>&- || true
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$dir"
}
trap finish EXIT

waitfor() { # file
  for _ in $(seq 600); do [ -s "$1" ] && return; sleep 0.05; done
  echo "demo: nothing came up; see:" >&2
  cat "$dir"/*.log >&2
  exit 1
}
say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
expect() { # text in $out
  if ! grep -qF -- "$1" <<<"$out"; then
    printf '\ndemo: FAILED: expected "%s"\n' "$1" >&2
    exit 1
  fi
}
sql() { # runs psql with each argument as a line, shows both
  for line in "$@"; do printf '  shop=> %s\n' "$line"; done
  out=$(printf '%s\n' "$@" | "$root/build/taskgate" psql shop --task order-support -- -X -P pager=off 2>&1 || true)
  sed 's/^/  /' <<<"$out"
}
tg() {
  printf '  $ taskgate %s\n' "$*"
  local code=0
  out=$("$root/build/taskgate" -c "$dir/gateway.yaml" "$@" 2>&1) || code=$?
  sed 's/^/  /' <<<"$out"
  return $code
}

say "a throw-away PostgreSQL with a shop, an identity provider, the gateway"
"$root/build/demo-server" <"$fifo" >"$dir/server.env" 2>"$dir/server.log" & # ends, and takes away what it made, with its input
exec 9>"$fifo"
echo '{"ada": {"password": "lovelace", "groups": ["task:order-support", "task:data-migration", "task:web-care"]}, "grace": {"password": "hopper", "groups": ["dba", "sre"]}}' >"$dir/users.json"
"$root/build/taskgate" dev-idp --address 127.0.0.1:0 --users "$dir/users.json" >"$dir/issuer" 2>"$dir/idp.log" &
pids+=($!)
waitfor "$dir/server.env"
waitfor "$dir/issuer"
eval "$(cat "$dir/server.env")"
issuer=$(cat "$dir/issuer")
cp -r examples/catalogs/shop "$dir/tasks"
printf '%s' "$PASSWORD" >"$dir/password"
chmod 600 "$dir/password"

# A host: an sshd of this user's own, with nothing but its key.
host=$dir/host
mkdir -p "$host/srv/log" "$host/srv/conf"
printf 'GET / 200\nGET /cart 500\n' >"$host/srv/log/access.log"
printf 'host = db-1\npassword = hunter2\n' >"$host/srv/conf/db.ini"
ssh-keygen -q -t ed25519 -N '' -f "$host/host_key"
ssh-keygen -q -t ed25519 -N '' -f "$host/web-1.key"
if [ "$(id -u)" -eq 0 ]; then mkdir -p /run/sshd; fi
for _ in $(seq 20); do
  hostport=$((20000 + RANDOM % 20000))
  cat >"$host/sshd_config" <<CONF
ListenAddress 127.0.0.1:$hostport
HostKey $host/host_key
AuthorizedKeysFile $host/web-1.key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp /usr/lib/openssh/sftp-server
CONF
  /usr/sbin/sshd -D -f "$host/sshd_config" -E "$host/sshd.log" &
  sshd=$!
  for _ in $(seq 100); do
    if grep -qs "Server listening" "$host/sshd.log" || ! kill -0 "$sshd" 2>/dev/null; then break; fi
    sleep 0.05
  done
  if kill -0 "$sshd" 2>/dev/null; then break; fi # else somebody else has the port
  rm -f "$host/sshd.log"
done
pids+=("$sshd")
cat >"$dir/tasks/web-care.yaml" <<YAML
task: web-care
resources: [web-1]
allow:
  - {exec: [[uname, -s], [tail, -n, "1", $host/srv/log/*]]}
  - {files: {read: [$host/srv/log/*, $host/srv/conf/db.ini], stat: [$host/srv/conf/*.yaml]}}
mask:
  - {files: [$host/srv/conf/*.ini], lines: 'password *= *(.*)', with: fixed("***")}
review:
  - {files: {write: [$host/srv/conf/*.yaml]}, by: {groups: [sre], people: 1}}
YAML
cat >"$dir/gateway.yaml" <<YAML
data: ./data
listeners:
  postgres: {address: "127.0.0.1:0", plain: true}
  ssh: {address: "127.0.0.1:0"}
  api: {address: "127.0.0.1:0", plain: true}
issuers:
  - {url: "$issuer", client_id: taskgate, may_assert: ["task:*", dba, sre]}
resources:
  shop: {protocol: postgres, address: "localhost:$PORT", database: shop, ca: "file:$CA", logins: {app: {user: app, password: "file:password"}}}
  web-1: {protocol: ssh, address: "127.0.0.1:$hostport", host_key: "$(ssh-keygen -lf "$host/host_key.pub" | cut -d' ' -f2)", login: $(id -un), key: "file:$host/web-1.key", shell: posix}
catalog: ./tasks
plugins:
  - {name: tasks, path: $root/build/tasks.wasm, may: [allow, deny, review, mask], isolation: shared, cache: true}
YAML
"$root/build/taskgate" -c "$dir/gateway.yaml" serve >"$dir/addresses" 2>"$dir/gateway.log" &
gateway=$!
pids+=($gateway)
waitfor "$dir/addresses"
api=$(sed 's/.*"api":"\([^"]*\)".*/\1/' "$dir/addresses")
port=$(sed 's/.*"postgres":"[^"]*:\([0-9]*\)".*/\1/' "$dir/addresses")
export XDG_CONFIG_HOME=$dir/config

say "ada logs in by her identity provider, through the gateway"
confirmed() { # user password arguments: runs taskgate, and confirms the login that it asks for
  local user=$1 password=$2 code=0
  shift 2
  printf '  %s $ taskgate %s\n' "$user" "$*"
  : >"$dir/asks"
  "$root/build/taskgate" "$@" >"$dir/asks" 2>&1 &
  local asking=$!
  for _ in $(seq 200); do
    if grep -q "^code  " "$dir/asks"; then
      "$root/build/taskgate" dev-confirm "$(sed -n 's/^open *//p' "$dir/asks")" "$(sed -n 's/^code  *//p' "$dir/asks" | head -1)" --user "$user" --password "$password"
      break
    fi
    kill -0 "$asking" 2>/dev/null || break
    sleep 0.05
  done
  wait "$asking" || code=$?
  out=$(cat "$dir/asks")
  sed 's/^/  /' <<<"$out"
  return $code
}
confirmed ada lovelace login --gateway "http://$api"
expect "you are ada"
expect "order-support"
echo "  from here: taskgate psql shop --task order-support, or any client: the task is the user, the resource the database, a token the password"
token=$("$root/build/taskgate" token --task order-support --on shop --for 8h)
url="postgresql://order-support:$token@127.0.0.1:$port/shop"

say "allowed: what the task lists"
sql "select id, name, email from customers where id = 7;" "update orders set status = 'shipped' where id = 7;"
expect "***@example.com"
expect "UPDATE 1"

say "masked: it may be shown, and nothing else"
sql "select id, email from customers where email = 'c7@example.com';" "select upper(email) from customers;"
expect "masked in this task and cannot be used in a condition"
expect "masked in this task and cannot be computed with"

say "refused: a table dropped, with what the task does allow"
sql "drop table orders;"
expect "drop_table of public.orders is not in this task"
expect "HINT:  task order-support allows"

say "refused: a column that the task does not list"
sql "select name, card from customers;"
expect "column card of public.customers is not in this task"

say "refused: an update without a key, and what comes closest"
sql "update orders set status = 'done';"
expect "needs a condition that fixes a unique key"
expect "order-support.yaml"

say "refused: a commit with something behind it"
sql "commit \\; drop table customers;"
expect "drop_table of public.customers is not in this task"

say "a refusal in a transaction rolls it back, and the session goes on"
sql "begin;" "update orders set status = 'lost' where id = 7;" "delete from items;" "commit;" "select status from orders where id = 7;"
expect "delete on public.items is not in this task"
expect "ROLLBACK"
expect "shipped"

say "psql's own looking around works"
sql "\\dt"
expect "customers"

say "held: a second person looks at it first"
XDG_CONFIG_HOME=$dir/grace confirmed grace hopper login --gateway "http://$api"
held() { # text: psql in the background as ada, held; its output is in $dir/held
  printf '  ada   shop=> %s\n' "$1"
  : >"$dir/held"
  psql -X -P pager=off "postgresql://data-migration:$migration@127.0.0.1:$port/shop" -c "$1" >"$dir/held" 2>&1 &
  holding=$!
  pids+=($holding)
  for _ in $(seq 200); do grep -q "taskgate approve" "$dir/held" && break; sleep 0.05; done
  request=$(sed -n 's/.*taskgate approve \([a-z0-9]*\).*/\1/p' "$dir/held" | head -1)
}
answered() {
  wait "$holding" || true
  out=$(cat "$dir/held")
  sed 's/^/  ada   /' <<<"$out"
}
migration=$("$root/build/taskgate" token --task data-migration --on shop --for 8h)
held "delete from orders where id = 101;"
XDG_CONFIG_HOME=$dir/grace confirmed grace hopper approvals
expect "$request"
XDG_CONFIG_HOME=$dir/grace tg approvals show "$request"
expect "does      delete public.items"
code=$(sed -n 's/^code  *//p' <<<"$out")
XDG_CONFIG_HOME=$dir/grace tg approve "$request" --code "$code" --reason "the customer asked for it"
answered
expect "DELETE 1"

say "denied: it never runs, and the session says by whom and why"
held "delete from orders where id = 102;"
code=$(XDG_CONFIG_HOME=$dir/grace "$root/build/taskgate" approvals show "$request" | sed -n 's/^code  *//p')
XDG_CONFIG_HOME=$dir/grace tg deny "$request" --code "$code" --reason "that one is still open"
answered
expect "denied by grace: that one is still open"

say "withdrawn: ctrl-C in psql, and nobody can approve it any more"
held "delete from orders where id = 103;"
kill -INT "$holding"
answered
expect "canceling statement due to user request"
XDG_CONFIG_HOME=$dir/grace tg approve "$request" --code none --reason late && { echo "demo: FAILED: it was approved" >&2; exit 1; }
expect "withdrawn"
sql "select id from orders where id in (101, 102, 103) order by id;"
expect "(2 rows)"

say "a host: plain ssh, each program and each file judged"
tg ssh-config --write "$dir/ssh_config"
onhost() { # text
  printf '  ada   $ ssh web-1 %s\n' "'$1'"
  local code=0
  out=$(ssh -n -F "$dir/ssh_config" web-1 "$1" 2>&1) || code=$?
  sed 's/^/  ada   /' <<<"$out"
  return $code
}
onhost "tail -n 1 $host/srv/log/access.log"
expect "GET /cart 500"
onhost "uname -s; cat /etc/shadow" && { echo "demo: FAILED: it ran" >&2; exit 1; }
expect "taskgate: denied:"
expect "taskgate: hint:"
echo "get $host/srv/log/access.log $dir/got.log" | sftp -q -b - -F "$dir/ssh_config" web-1 | sed 's/^/  ada   /'
cmp "$dir/got.log" "$host/srv/log/access.log"
echo "get $host/srv/conf/db.ini $dir/db.ini" | sftp -q -b - -F "$dir/ssh_config" web-1 | sed 's/^/  ada   /'
sed 's/^/  ada   /' "$dir/db.ini"
grep -qx 'password = \*\*\*' "$dir/db.ini"

say "a file written there is held: somebody sees it first"
echo "workers: 4" >"$dir/web.yaml"
: >"$dir/held"
echo "put $dir/web.yaml $host/srv/conf/web.yaml" | sftp -b - -F "$dir/ssh_config" web-1 >"$dir/held" 2>&1 &
holding=$!
pids+=($holding)
for _ in $(seq 400); do grep -q "taskgate approve" "$dir/held" && break; sleep 0.05; done
request=$(sed -n 's/.*taskgate approve \([a-z0-9]*\).*/\1/p' "$dir/held" | head -1)
[ ! -s "$host/srv/conf/web.yaml" ]
XDG_CONFIG_HOME=$dir/grace tg approvals show "$request"
expect "workers: 4"
code=$(sed -n 's/^code  *//p' <<<"$out")
XDG_CONFIG_HOME=$dir/grace tg approve "$request" --code "$code" --reason "four is right"
answered
grep -qx "workers: 4" "$host/srv/conf/web.yaml"
tg sessions
session=$(grep web-care <<<"$out" | tail -1 | cut -d' ' -f1)
tg replay "$session"
expect "sha256"

say "before asking: what would it do?"
tg explain --task data-migration "delete from orders where id = 1" && { echo "demo: FAILED: it may do that" >&2; exit 1; }
expect "delete public.items via fk public.items.items_order_id_fkey"
expect "review"

say "the task is edited under the live session"
coproc SESSION { psql -X -P pager=off "$url" 2>&1; }
psqlpid=$SESSION_PID
exec 7<&"${SESSION[0]}" 8>&"${SESSION[1]}"
ask() { # line, text that ends its answer
  printf '  shop=> %s\n' "$1"
  echo "$1" >&8
  out=""
  while IFS= read -r -t 20 line <&7; do
    printf '  %s\n' "$line"
    out+="$line"$'\n'
    [[ $line == *"$2"* ]] && return
  done
  echo "demo: FAILED: no answer with \"$2\"" >&2
  exit 1
}
ask "select count(note) from orders;" "HINT"
sed -i 's/columns: \[id, customer_id, status, total, created\]/columns: [id, customer_id, status, total, created, note]/' "$dir/tasks/order-support.yaml"
tg reload
expect "task order-support changed"
ask "select count(note) from orders;" "(1 row)"

say "a fault in a task file changes nothing, and is named"
echo "  - {verbs: [selct], tables: [orders]}" >>"$dir/tasks/order-support.yaml"
tg reload && { echo "demo: FAILED: it was taken" >&2; exit 1; }
expect "selct"
expect "nothing has changed"
sed -i '$d' "$dir/tasks/order-support.yaml"

say "a guard of your own, in WebAssembly, loaded under the live session"
tg plugin build "$root/examples/guards/freeze" -o "$dir/freeze.wasm"
cat >>"$dir/gateway.yaml" <<YAML
  - {name: freeze, path: freeze.wasm, config: {tables: [public.orders]}}
YAML
tg reload
expect "guard freeze added"
ask "update orders set status = 'done' where id = 7;" "HINT"
grep -qF "public.orders is frozen" <<<"$out" || { echo "demo: FAILED: not frozen" >&2; exit 1; }
echo '\q' >&8
wait "$psqlpid" 2>/dev/null || true

say "the recording of that session"
tg sessions
session=$(tail -1 <<<"$out" | cut -d' ' -f1)
tg replay "$session"
expect "public.orders is frozen"
expect "closed after"

say "and of one that was held: who asked, who approved, what became of it"
tg sessions
session=$(grep -m1 data-migration <<<"$out" | cut -d' ' -f1)
tg replay "$session"

say "the audit log is proved, and a tampered copy is caught"
tg audit verify
expect "consistent"
cp -r "$dir/data/audit" "$dir/copy"
mkdir "$dir/tampered" && mv "$dir/copy" "$dir/tampered/audit"
offset=$(grep -abo "drop table" "$dir/tampered/audit/00000001.log" | head -1 | cut -d: -f1)
printf 'look' | dd of="$dir/tampered/audit/00000001.log" bs=1 seek="$offset" conv=notrunc status=none
tg audit verify --data "$dir/tampered" && { echo "demo: FAILED: it was not caught" >&2; exit 1; }
expect "does not match its hash"

say "done: every step happened"
if [ -n "${DEMO_EXIT:-}" ]; then exit 0; fi
echo "  the gateway stays up. In another shell:"
echo "    psql \"$url\""
echo "  end with Ctrl-C"
wait "$gateway"
