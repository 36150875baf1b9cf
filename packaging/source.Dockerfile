# The same root file system as ./Dockerfile gives, compiled inside a container:
#   docker build -f packaging/source.Dockerfile --build-arg VERSION="$(scripts/version.sh)" -t weft-rootfs .
# It stands in a file of its own because Docker 20.10 builds every stage of a
# file, needed or not, and would pull this one's image.
FROM golang:1.26 AS build
ARG VERSION=unknown
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN make build VERSION="$VERSION"

FROM scratch
COPY --from=build /src/build/weft /weft
ENTRYPOINT ["/weft", "agent"]
