#!/bin/bash
#
# demo.sh - a relay with two delivery nodes behind it, and messages sent
# through it by swaks and curl.  Everything is on loopback ports that were
# free and in a temporary directory; all of it is gone in the end.
#
# KEEP=1 leaves it running and tells how to talk to it.

. "$(dirname "$0")/common.sh"

keep=${KEEP:-}
pids=()
number=0
quote="    "

step() {
    number=$((number + 1))
    printf '\n%s. %s\n' "$number" "$*"
}

show() {
    sed "s/^/$quote/"
}

cleanup() {
    local rc=$? pid

    trap - EXIT INT TERM HUP

    if [ $rc -ne 0 ] && [ -s "${dir:-}/error.log" ]; then
        printf '\nthe end of the error log:\n' >&2
        tail -n 20 "$dir/error.log" | show >&2
    fi

    if [ $rc -ne 0 ] || [ -z "$keep" ]; then
        for pid in "${pids[@]}"; do
            kill "$pid" 2>/dev/null || :
        done
        wait 2>/dev/null || :
        [ -z "${dir:-}" ] || rm -rf "$dir"
    fi

    exit $rc
}

trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# in the background, out of reach of the terminal
start() {
    setsid "$@" </dev/null >>"$dir/output.log" 2>&1 &
    pids+=($!)
}

# wait_for COMMAND ... - until it succeeds
wait_for() {
    local n

    for n in $(seq 100); do
        "$@" 2>/dev/null && return 0
        kill -0 "${pids[-1]}" 2>/dev/null || break
        sleep 0.1
    done

    cat "$dir/output.log" >&2
    die "not started"
}

listens() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1")
}

free_ports() {
    perl -MIO::Socket::INET -e '
        my @s = map {
            IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")
        } 1 .. shift;
        print join(" ", map { $_->sockport } @s), "\n";' "$1"
}


step "Building the module"

"$tools/deps.sh" build demo
run_build >/dev/null
nginx=$TEST_NGINX_BINARY
find_smtp_sink

{
    "$nginx" -v 2>&1 | sed 's/.*: //'
    for m in "$TEST_NGINX_STREAM_MODULE" "$TEST_NGINX_MODULE"; do
        [ -z "$m" ] || echo "${m#"$root"/}"
    done
} | show


step "Starting nginx with the module, and two delivery nodes"

dir=$(mktemp -d "${TMPDIR:-/tmp}/smtp-relay-demo.XXXXXX")
mkdir "$dir/node1" "$dir/node2"

read -r port_starttls port_tls port_node1 port_node2 < <(free_ports 4)

user=demo
key=$(openssl rand -hex 20)

# the key file: id:{SSHA256}base64(sha256(key + salt) + salt):account
openssl rand -out "$dir/salt" 8
hash=$({ printf %s "$key" | cat - "$dir/salt" | openssl dgst -sha256 -binary
         cat "$dir/salt"; } | openssl base64 -A)
rm "$dir/salt"
(umask 077 && echo "$user:{SSHA256}$hash:account-1" >"$dir/keys")

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -days 7 -subj /CN=localhost -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" \
    -keyout "$dir/key.pem" -out "$dir/cert.pem" 2>/dev/null

nginx_user=
sink_user=()

if [ "$(id -u)" = 0 ]; then
    # as root, workers and nodes run as nobody, and have to get there
    nginx_user="user nobody nogroup;"
    sink_user=(-u nobody)
    chmod 755 "$dir"
    chown nobody "$dir/node1" "$dir/node2"
    chgrp nogroup "$dir/keys"
    chmod 640 "$dir/keys"
fi

load=
for m in "$TEST_NGINX_STREAM_MODULE" "$TEST_NGINX_MODULE"; do
    [ -z "$m" ] || load="${load}load_module $m;"$'\n'
done

cat >"$dir/nginx.conf" <<END
$load
$nginx_user
daemon            off;
worker_processes  1;
pid               $dir/nginx.pid;
error_log         $dir/error.log info;

events {}

stream {
    upstream delivery {
        zone    delivery 64k;
        server  127.0.0.1:$port_node1;
        server  127.0.0.1:$port_node2;
    }

    map \$smtp_relay_event \$is_message { message 1; }
    map \$smtp_relay_event \$is_session { session 1; }

    log_format  message  'message account=\$smtp_relay_account '
                         'from=<\$smtp_relay_mail_from> '
                         'rcpts=\$smtp_relay_recipients '
                         'size=\$smtp_relay_message_size '
                         'node=\$upstream_addr "\$smtp_relay_message_reply"';

    log_format  session  'session \$smtp_relay_protocol \$ssl_protocol '
                         'auth=\$smtp_relay_auth_status '
                         'messages=\$smtp_relay_messages status=\$status';

    access_log  $dir/access.log  message  if=\$is_message;
    access_log  $dir/access.log  session  if=\$is_session;

    server {
        listen  127.0.0.1:$port_tls ssl;
        listen  127.0.0.1:$port_starttls;

        ssl_certificate       $dir/cert.pem;
        ssl_certificate_key   $dir/key.pem;
        ssl_protocols         TLSv1.2 TLSv1.3;

        smtp_relay_hostname   relay.localhost;
        smtp_relay_auth_file  $dir/keys;
        smtp_relay_pass       delivery;
    }
}
END

: >"$dir/output.log"

for n in 1 2; do
    port=port_node$n
    start "$smtp_sink" "${sink_user[@]}" -h "node$n.localhost" \
        -d "$dir/node$n/message." "127.0.0.1:${!port}" 100
    wait_for listens "${!port}"
done

start "$nginx" -p "$dir" -e "$dir/error.log" -c "$dir/nginx.conf"
wait_for test -s "$dir/nginx.pid"      # it listens before it writes that

show <<END
relay   127.0.0.1:$port_starttls  STARTTLS, as on port 587
        127.0.0.1:$port_tls  TLS from the start, as on port 465
nodes   127.0.0.1:$port_node1, 127.0.0.1:$port_node2  smtp-sink
user    $user, with an API key made just now
END


send_swaks() {
    swaks --server 127.0.0.1 --port "$port_starttls" --helo client.example \
        --tls --tls-verify --tls-ca-path "$dir/cert.pem" \
        --auth PLAIN --auth-user "$user" --auth-hide-password "$@" </dev/null
}

step "swaks sends a message over STARTTLS"

send_swaks --auth-password "$key" \
    --from sender@client.example --to anna@example.org,otto@example.org \
    --h-Subject "Hello from swaks" --body "The first message." \
    >"$dir/swaks.log" 2>&1 || { cat "$dir/swaks.log"; die "swaks failed"; }

# the dialogue without what is known already, and without the message
dialogue() {
    grep -E '^( ?(<-|->|<~|~>|<~\*|<\*\*)|=== (Trying|TLS started))' "$1" \
        | sed -E -e 's/(~> AUTH PLAIN ).*/\1********/' \
            -e '/^<~  250-/{/AUTH/!d}' -e '/^<~  250 SIZE/d' \
            -e '/^ ~> *\r?$/d' \
            -e '/^ ~> (Date|To|From|Subject|Message-Id|X-Mailer|The )/d' \
        | show
}

dialogue "$dir/swaks.log"


step "The same with a wrong key"

if send_swaks --auth-password "not-the-key" \
    --from sender@client.example --to anna@example.org >"$dir/wrong.log" 2>&1
then
    die "a wrong key was accepted"
fi

dialogue "$dir/wrong.log" | sed -n '/~> AUTH PLAIN/,$p'


step "curl sends three messages over TLS from the start, on one connection"

for n in 1 2 3; do
    printf '%s\r\n' "From: <sender@client.example>" "To: <anna@example.org>" \
        "Subject: Hello from curl, $n" "" "Message number $n." "." \
        ".a line that starts with a dot" >"$dir/mail$n"
done

curl_one() {
    printf '%s\n' "url = \"smtps://127.0.0.1:$port_tls/client.example\"" \
        "cacert = \"$dir/cert.pem\"" "user = \"$user:$key\"" \
        "mail-from = \"sender@client.example\"" \
        "mail-rcpt = \"anna@example.org\"" "upload-file = \"$dir/mail$1\"" \
        "verbose" "silent" "show-error"
}

{ curl_one 1; echo next; curl_one 2; echo next; curl_one 3; } \
    | curl --config - >"$dir/curl.log" 2>&1 \
    || { grep -v 'AUTH\|user' "$dir/curl.log"; die "curl failed"; }

grep -E '^(< (220|235|250 2\.0\.0|354|221)|> (MAIL|RCPT|DATA|QUIT))|Re-using' \
    "$dir/curl.log" | tr -d '\r' | show


step "The relay's access log: a line for each message, and for each session"

sleep 0.2
cat "$dir/access.log" | show


step "What the nodes have: the last message, as it came"

last=$(grep -l "Hello from curl, 3" "$dir"/node?/message.* || :)
[ -n "$last" ] || die "the last message did not reach a node"
show <"$last"

got1=$(find "$dir/node1" -type f | wc -l)
got2=$(find "$dir/node2" -type f | wc -l)

step "Four messages accepted, $((got1 + got2)) delivered:" \
     "$got1 by node 1, $got2 by node 2"

[ $((got1 + got2)) -eq 4 ] || die "that is not what was accepted"

[ -n "$keep" ] || exit 0

rm -f "$dir"/mail? "$dir"/*.log.tmp

cat <<END

It is left running.  Host 127.0.0.1, user and key:

    $user
    $key

Talk to it:

    swaks --server 127.0.0.1:$port_starttls --tls \\
        --auth PLAIN --auth-user $user --auth-password $key \\
        --from a@example.com --to b@example.org

    printf 'Subject: hello\\r\\n\\r\\nhello\\r\\n' | curl -v \\
        --url smtps://127.0.0.1:$port_tls --cacert $dir/cert.pem \\
        --user $user:$key --mail-from a@example.com \\
        --mail-rcpt b@example.org --upload-file -

    openssl s_client -quiet -crlf -connect 127.0.0.1:$port_tls
    openssl s_client -quiet -crlf -starttls smtp -connect 127.0.0.1:$port_starttls

Look at it:

    less $dir/nginx.conf
    tail -f $dir/access.log $dir/error.log
    ls $dir/node1 $dir/node2

Stop it:

    kill ${pids[*]}; rm -rf $dir
END
