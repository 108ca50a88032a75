#!/bin/bash
# The build stage of the Dockerfile: compiles outboxd for an architecture on another one, and makes the root of the image.
#   image-build.sh TARGET_ARCHITECTURE BUILD_ARCHITECTURE ROOT      (architectures as Docker names them: amd64, arm64)
set -euo pipefail

architecture=${1:?} builder=${2:?} root=${3:?}

triple_of() {
    case $1 in
        amd64) echo x86_64 ;;
        arm64) echo aarch64 ;;
        *) echo "image-build: $1 is not supported; expected amd64 or arm64" >&2; exit 64 ;;
    esac
}

machine=$(triple_of "$architecture")
target=$machine-unknown-linux-gnu
# The names that the variables of cargo and of the cc crate have for the target.
upper=$(printf '%s' "$target" | tr 'a-z-' 'A-Z_')
lower=$(printf '%s' "$target" | tr '-' '_')
libraries=()
if [ "$architecture" != "$builder" ]; then
    rustup target add "$target"
    host=$(triple_of "$builder")_unknown_linux_gnu
    prefix=$machine-linux-gnu
    # Build scripts are compiled for the builder and everything else for the target. librdkafka's configure reads CC and CXX.
    export "CARGO_TARGET_${upper}_LINKER=$prefix-gcc" "CC_$host=gcc" "CXX_$host=g++"
    export "CC_$lower=$prefix-gcc" "CXX_$lower=$prefix-g++" "AR_$lower=$prefix-ar" "RANLIB_$lower=$prefix-ranlib"
    export CC=$prefix-gcc CXX=$prefix-g++ AR=$prefix-ar RANLIB=$prefix-ranlib STRIP=$prefix-strip
    libraries=("/usr/$prefix/lib")
fi

cargo build --locked --profile "${OUTBOXD_PROFILE:-dist}" --target "$target" --bin outboxd
directory=${OUTBOXD_PROFILE:-dist}
[ "$directory" = dev ] && directory=debug
sh scripts/image-root.sh "${CARGO_TARGET_DIR:-target}/$target/$directory/outboxd" "$root" "${libraries[@]}"
