
/* The HTTP service that says yes to every login. */


#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "sink.h"


static int http_request(sink_session_t *s, char *p);
static const char *http_header(const char *p, const char *name, char *value,
    size_t size);


int
http_feed(sink_session_t *s, const unsigned char *p, size_t len)
{
    char    *end, *line;
    size_t   rest;

    if (s->nline + len >= HTTP_SIZE) {
        return -1;
    }

    if (s->nline + len >= s->line_size) {
        line = realloc(s->line, s->nline + len + 1024);

        if (line == NULL) {
            return -1;
        }

        s->line = line;
        s->line_size = s->nline + len + 1024;
    }

    memcpy(s->line + s->nline, p, len);
    s->nline += len;
    s->line[s->nline] = '\0';

    while ((end = strstr(s->line, "\r\n\r\n")) != NULL) {
        end[2] = '\0';

        if (http_request(s, s->line) != 0) {
            return -1;
        }

        rest = s->line + s->nline - (end + 4);
        memmove(s->line, end + 4, rest + 1);
        s->nline = rest;
    }

    return 0;
}


static int
http_request(sink_session_t *s, char *p)
{
    int   close;
    char  value[256];

    counts.auth_requests++;

    if (strncmp(p, "GET ", 4) != 0) {
        return -1;
    }

    close = strstr(p, " HTTP/1.0\r\n") != NULL
            || (http_header(p, "Connection: ", value, sizeof(value))
                && strcasecmp(value, "close") == 0);

    if ((user && (http_header(p, "Auth-User: ", value, sizeof(value)) == NULL
                  || strcmp(value, user) != 0))
        || (secret
            && (http_header(p, "Auth-Pass: ", value, sizeof(value)) == NULL
                || strcmp(value, secret) != 0)))
    {
        counts.auth_denied++;

        reply("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: %s\r\n"
              "Auth-Status: Invalid login or password\r\n\r\n",
              close ? "close" : "keep-alive");

    } else {
        reply("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: %s\r\n"
              "Auth-Status: OK\r\n", close ? "close" : "keep-alive");

        if (strncmp(p, "GET /group ", 11) == 0) {

            /* the proxy has a group of nodes to choose from */

            reply("\r\n");

        } else if (auth_server) {
            reply("Auth-Server: %.*s\r\nAuth-Port: %s\r\n\r\n",
                  (int) strcspn(auth_server, ":"), auth_server,
                  auth_server + strcspn(auth_server, ":")
                  + (strchr(auth_server, ':') != NULL));

        } else if (first_port) {
            reply("Auth-Server: 127.0.0.1\r\nAuth-Port: %d\r\n\r\n",
                  first_port);

        } else {
            reply("\r\n");
        }
    }

    s->quit = close;

    return 0;
}


static const char *
http_header(const char *p, const char *name, char *value, size_t size)
{
    size_t  len;

    for (p = strstr(p, "\r\n"); p; p = strstr(p + 2, "\r\n")) {

        if (!starts(p + 2, name)) {
            continue;
        }

        p += 2 + strlen(name);
        len = strcspn(p, "\r\n");

        if (len >= size) {
            return NULL;
        }

        memcpy(value, p, len);
        value[len] = '\0';

        return value;
    }

    return NULL;
}
