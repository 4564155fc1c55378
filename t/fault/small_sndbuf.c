
/*
 * What an nginx under test connects to is given a small send buffer, which
 * a message fills: LD_PRELOAD.
 */


#define _GNU_SOURCE

#include <dlfcn.h>
#include <sys/socket.h>


int
connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    int    size;
    int  (*call)(int, const struct sockaddr *, socklen_t);

    size = 4096;

    (void) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));

    call = (__typeof__(call)) dlsym(RTLD_NEXT, "connect");

    return call(fd, addr, len);
}
