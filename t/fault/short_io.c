
/*
 * Reads and writes of sockets carry one octet at a time: LD_PRELOAD for an
 * nginx under test, in its workers.  It takes a level-triggered event method
 * ("use poll"): an edge-triggered one tells of octets only once.
 */


#define _GNU_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>


#define real(name)  ((__typeof__(&name)) next(#name))


static void *
next(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}


static int
is_stream_socket(int fd)
{
    int        type;
    socklen_t  len;

    len = sizeof(type);

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == -1) {
        errno = 0;
        return 0;
    }

    /* the channel between master and workers has messages of its own */

    len = sizeof(type);

    if (type != SOCK_STREAM
        || getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &type, &len) == -1)
    {
        errno = 0;
        return 0;
    }

    return (type == AF_INET || type == AF_INET6);
}


ssize_t
recv(int fd, void *buf, size_t len, int flags)
{
    return real(recv)(fd, buf, (len && is_stream_socket(fd)) ? 1 : len, flags);
}


ssize_t
send(int fd, const void *buf, size_t len, int flags)
{
    return real(send)(fd, buf, (len && is_stream_socket(fd)) ? 1 : len, flags);
}


ssize_t
read(int fd, void *buf, size_t len)
{
    return real(read)(fd, buf, (len && is_stream_socket(fd)) ? 1 : len);
}


ssize_t
write(int fd, const void *buf, size_t len)
{
    return real(write)(fd, buf, (len && is_stream_socket(fd)) ? 1 : len);
}


ssize_t
readv(int fd, const struct iovec *iov, int n)
{
    if (n && iov[0].iov_len && is_stream_socket(fd)) {
        return real(read)(fd, iov[0].iov_base, 1);
    }

    return real(readv)(fd, iov, n);
}


ssize_t
writev(int fd, const struct iovec *iov, int n)
{
    if (n && iov[0].iov_len && is_stream_socket(fd)) {
        return real(write)(fd, iov[0].iov_base, 1);
    }

    return real(writev)(fd, iov, n);
}


/* nginx sends no files here, but it may ask */

ssize_t
sendfile(int out, int in, off_t *offset, size_t len)
{
    ssize_t  (*call)(int, int, off_t *, size_t);

    call = (__typeof__(call)) next("sendfile");

    return call(out, in, offset, (len && is_stream_socket(out)) ? 1 : len);
}
