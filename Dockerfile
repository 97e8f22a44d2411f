# The proxy and nothing else: a static binary and the CA roots, as a numeric user that owns nothing.
#
#   docker build -t sluicegate .
#   docker run --rm -p 3128:3128 -v ./policy.yaml:/etc/sluicegate/policy.yaml:ro \
#     -e SLUICEGATE__ADMIN__BIND=127.0.0.1:9090 sluicegate

FROM docker.io/library/rust:1-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY config config
# Benches and tests are named in Cargo.toml; cargo wants to see the files of the targets it knows, not to build them.
COPY benches benches
COPY tests tests
# Static against glibc: no other toolchain is needed, on amd64 and arm64 alike. Names are resolved by our own resolver,
# never by the C library, so nothing is loaded at run time.
RUN RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --release --locked --target "$(rustc -vV | sed -n 's/^host: //p')" \
 && install -D "target/$(rustc -vV | sed -n 's/^host: //p')/release/sluicegate" /out/sluicegate

FROM scratch
COPY --from=build /out/sluicegate /sluicegate
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY deploy/sluicegate.yaml /etc/sluicegate/sluicegate.yaml
USER 65532:65532
EXPOSE 3128 8443 8080 9091
ENTRYPOINT ["/sluicegate"]
CMD ["run", "-c", "/etc/sluicegate/sluicegate.yaml"]
