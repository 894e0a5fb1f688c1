# shellcheck shell=bash
# Run by `helm test`. CACHE, HEALTH, SCHEME and IMAGE say what to ask; the folders are those of the pod.
set -euo pipefail
work=${WORK:-/work} login=${LOGIN:-/login} authorities=${AUTHORITIES:-/etc/tarn/tls/ca.crt}

echo "the configuration:"
tarn check-config "$TARN_CONFIG"

echo "/readyz:"
exec 3<>"/dev/tcp/$HEALTH"
printf 'GET /readyz HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "${HEALTH%/*}" >&3
read -r answer <&3
exec 3>&-
echo "$answer"
case $answer in
*" 200 "*) ;;
*) exit 1 ;;
esac

if [ -z "$IMAGE" ]; then
    echo "no pull: test.image is empty"
    exit 0
fi

# A tarn of this pod pulls the image from the cache, as from a registry, and checks every digest.
registry=${IMAGE%%/*}
if [[ $IMAGE != */* || ($registry != *[.:]* && $registry != localhost) ]]; then
    echo "test.image: $IMAGE does not begin with its registry, as in docker.io/library/busybox:1.37"
    exit 1
fi
{
    echo "root: $work/cache"
    echo "upstreams:"
    echo "  - host: $registry"
    echo "    url: $SCHEME://$CACHE"
    echo "    prefix: $registry"
    if [ -f "$authorities" ]; then
        echo "    ca: $authorities"
    fi
    if [ -f "$login/username" ]; then
        echo "    credentials: {username: \"$(cat "$login/username")\", password_file: $login/password}"
    fi
} >"$work/tarn.yaml"
tarn serve --config "$work/tarn.yaml" --listen 127.0.0.1:0 &
trap 'kill $! 2>/dev/null; wait $! || true' EXIT
for _ in $(seq 300); do
    [ ! -S "$work/cache/tarn.sock" ] || break
    sleep 0.1
done
echo "a pull of $IMAGE:"
case $(uname -m) in
x86_64) platform=(--platform linux/amd64) ;;
aarch64) platform=(--platform linux/arm64) ;;
*) platform=() ;;
esac
tarn warm --config "$work/tarn.yaml" "${platform[@]}" "$IMAGE"
