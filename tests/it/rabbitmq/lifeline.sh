# The parent of a test's RabbitMQ node and of its epmd: starts and signals them at the word of the test, and kills them
# when the test's end of the pipe breaks, however the test ended.
#
#     sh -c THIS sh FOLDER SERVER [COMMAND THAT RUNS A COMMAND WHERE RABBITMQ IS ...]
trap '' HUP INT TERM
cd "$1" || exit 1
folder=$1 server=$2
shift 2
exec 3>&1 >>output 2>&1
"$@" epmd -port "$ERL_EPMD_PORT" </dev/null 3>&- &
epmd=$!
while read -r word; do
    case $word in
    start)
        # A session of its own, to be killed as a whole.
        setsid "$@" "$server" </dev/null 3>&- &
        node=$!
        echo "$node" >&3
        ;;
    TERM) kill -TERM "$node" ;;
    KILL) kill -KILL "-$node" ;;
    esac
done
kill -9 "-$node" "$epmd"
wait
cd / && rm -rf "$folder"
