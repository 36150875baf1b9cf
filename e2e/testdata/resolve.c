// Prints the addresses of a name, as the C library that it was linked with finds them.
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
	char text[INET6_ADDRSTRLEN];
	int err = argc == 2 ? getaddrinfo(argv[1], NULL, &hints, &found) : EAI_NONAME;
	if (err != 0) {
		fprintf(stderr, "%s\n", gai_strerror(err));
		return 1;
	}
	for (; found != NULL; found = found->ai_next)
		if (getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0)
			puts(text);
	return 0;
}
