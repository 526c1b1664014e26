# The same image from programs that were built already; the context is the folder that holds them, built
# for the same release as the base image (`tools/docker-build --prebuilt DIR`).
FROM scratch
COPY api-gateway host-agent metadata-srv vnc-proxy vmmctl /
