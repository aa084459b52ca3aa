#!/bin/sh
# docker compose up --detach --wait. Compose names the container that failed; this also says why: the last line of one that
# ended, and what the health check of an unhealthy one said. Arguments go to `up`; settings come from .env as usual.
docker compose up --detach --wait "$@" && exit 0
code=$?
state='{{.State.Status}}/{{.State.ExitCode}}/{{with .State.Health}}{{.Status}}{{end}}'
named=
for id in $(docker compose ps --all --quiet); do
    case $(docker inspect --format "$state" "$id") in
    exited/0/*) continue ;;
    exited/*) why=$(docker logs --tail 1 "$id" 2>&1) ;;
    */unhealthy) why=$(docker inspect --format '{{range .State.Health.Log}}{{println .Output}}{{end}}' "$id" | grep . | tail -n 1) ;;
    *) continue ;;
    esac
    named=$(docker inspect --format '{{index .Config.Labels "com.docker.compose.service"}}' "$id")
    echo "$named: ${why:-see docker compose logs $named}" >&2
done
[ -n "$named" ] || echo "make doctor names what this machine lacks, and the variable that chooses another port." >&2
exit $code
