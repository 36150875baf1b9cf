# The root file system of the managed plugin, from the binary that "make build" left
# in build/weft. Pulls nothing. README.md, "Install it on real hosts", goes on from here
# to "docker plugin create".
# To compile inside a container instead: docker build -f packaging/source.Dockerfile .
FROM scratch
COPY build/weft /weft
ENTRYPOINT ["/weft", "agent"]
