# The root file system of the managed plugin, from the binary that "make build"
# left in build/weft. Pulls nothing:
#   make build && docker build -t weft-rootfs .
#   id=$(docker create weft-rootfs) && docker export "$id" | tar -x -C build/plugin/rootfs && docker rm "$id"
# To compile inside a container instead: docker build -f packaging/source.Dockerfile .
FROM scratch
COPY build/weft /weft
ENTRYPOINT ["/weft", "agent"]
