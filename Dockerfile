# The proxy and nothing else: a static binary, the CA roots and its settings, as a numeric user that owns nothing.
#
#   docker build -t sluicegate .
#   docker run --rm --read-only --cap-drop=all -p 3128:3128 \
#     -v ./policy.yaml:/etc/sluicegate/policy.yaml:ro sluicegate
#
# `--platform linux/arm64` builds on arm64, or under emulation. Whoever has built the files already (`deploy/rootfs DIR/out`)
# packs just them: `docker build --build-context build=DIR .` puts DIR in the place of the build stage.

ARG RUST=docker.io/library/rust:1.95-bookworm

FROM ${RUST} AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs ./
COPY .cargo .cargo
# Never built here; but Cargo.toml names them, and cargo wants to see them.
COPY benches benches
COPY config config
COPY deploy deploy
COPY src src
RUN deploy/rootfs /out

FROM scratch
COPY --from=build /out /
USER 65532:65532
EXPOSE 3128 8443 8080 9091
ENTRYPOINT ["/sluicegate"]
CMD ["run", "-c", "/etc/sluicegate/sluicegate.yaml"]
