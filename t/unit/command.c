
/*
 * Commands: verbs, HELO, paths, ESMTP parameters, BDAT.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_smtp_relay_parse.h"
#include "unit.h"


#define EXT_ALL                                                               \
    (NGX_SMTP_RELAY_EXT_8BITMIME | NGX_SMTP_RELAY_EXT_SMTPUTF8                \
     | NGX_SMTP_RELAY_EXT_DSN | NGX_SMTP_RELAY_EXT_SIZE)

#define TEN(s)  s s s s s s s s s s


typedef struct {
    ngx_str_t               line;
    ngx_smtp_relay_verb_e   verb;
    ngx_str_t               arg;
} command_verb_t;


/* what an argument is refused for, or what has been read out of it */

typedef struct {
    ngx_str_t               arg;
    ngx_str_t               expected;
} command_arg_t;


typedef struct {
    ngx_uint_t              ext;
    ngx_str_t               arg;
    ngx_str_t               expected;
} command_ext_t;


static command_verb_t  command_verbs[] = {

    { unit_text("EHLO client.example"),
      NGX_SMTP_RELAY_EHLO, unit_text("client.example") },
    { unit_text("helo client.example"),
      NGX_SMTP_RELAY_HELO, unit_text("client.example") },
    { unit_text("StartTLS"), NGX_SMTP_RELAY_STARTTLS, unit_text("") },
    { unit_text("AUTH PLAIN AGEAYg=="),
      NGX_SMTP_RELAY_AUTH, unit_text("PLAIN AGEAYg==") },
    { unit_text("MAIL FROM:<a@b> SIZE=1"),
      NGX_SMTP_RELAY_MAIL, unit_text("FROM:<a@b> SIZE=1") },
    { unit_text("rcpt to:<a@b>"),
      NGX_SMTP_RELAY_RCPT, unit_text("to:<a@b>") },
    { unit_text("DATA"), NGX_SMTP_RELAY_DATA, unit_text("") },
    { unit_text("BDAT 10 LAST"), NGX_SMTP_RELAY_BDAT, unit_text("10 LAST") },
    { unit_text("RSET"), NGX_SMTP_RELAY_RSET, unit_text("") },
    { unit_text("NOOP"), NGX_SMTP_RELAY_NOOP, unit_text("") },
    { unit_text("QUIT"), NGX_SMTP_RELAY_QUIT, unit_text("") },
    { unit_text("HELP"), NGX_SMTP_RELAY_HELP, unit_text("") },
    { unit_text("VRFY a"), NGX_SMTP_RELAY_VRFY, unit_text("a") },
    { unit_text("EXPN a"), NGX_SMTP_RELAY_EXPN, unit_text("a") },
    { unit_text("TURN"), NGX_SMTP_RELAY_TURN, unit_text("") },
    { unit_text("ETRN a"), NGX_SMTP_RELAY_ETRN, unit_text("a") },

    /* white space around an argument is no part of it */

    { unit_text("QUIT  \t"), NGX_SMTP_RELAY_QUIT, unit_text("") },
    { unit_text("NOOP\ta  b "), NGX_SMTP_RELAY_NOOP, unit_text("a  b") },
    { unit_text("MAIL"), NGX_SMTP_RELAY_MAIL, unit_text("") },

    { unit_text(""), NGX_SMTP_RELAY_UNKNOWN, unit_text("") },
    { unit_text(" "), NGX_SMTP_RELAY_UNKNOWN, unit_text("") },
    { unit_text(" QUIT"), NGX_SMTP_RELAY_UNKNOWN, unit_text("QUIT") },
    { unit_text("QUI"), NGX_SMTP_RELAY_UNKNOWN, unit_text("") },
    { unit_text("QUITT"), NGX_SMTP_RELAY_UNKNOWN, unit_text("") },
    { unit_text("MAILFROM:<>"), NGX_SMTP_RELAY_UNKNOWN, unit_text("") },
    { unit_text("RCPT:<a@b>"), NGX_SMTP_RELAY_UNKNOWN, unit_text("") },
    { unit_text("QUIT\xc2\xa0"), NGX_SMTP_RELAY_UNKNOWN, unit_text("") },

    /* HTTP */

    { unit_text("GET / HTTP/1.1"),
      NGX_SMTP_RELAY_FOREIGN, unit_text("/ HTTP/1.1") },
    { unit_text("POST /"), NGX_SMTP_RELAY_FOREIGN, unit_text("/") },
    { unit_text("HEAD /"), NGX_SMTP_RELAY_FOREIGN, unit_text("/") },
    { unit_text("PUT /"), NGX_SMTP_RELAY_FOREIGN, unit_text("/") },
    { unit_text("DELETE /"), NGX_SMTP_RELAY_FOREIGN, unit_text("/") },
    { unit_text("OPTIONS *"), NGX_SMTP_RELAY_FOREIGN, unit_text("*") },
    { unit_text("CONNECT a:25"), NGX_SMTP_RELAY_FOREIGN, unit_text("a:25") },
    { unit_text("PATCH /"), NGX_SMTP_RELAY_FOREIGN, unit_text("/") },
    { unit_text("TRACE /"), NGX_SMTP_RELAY_FOREIGN, unit_text("/") },
    { unit_text("PRI * HTTP/2.0"),
      NGX_SMTP_RELAY_FOREIGN, unit_text("* HTTP/2.0") },
    { unit_text("Host: a"), NGX_SMTP_RELAY_FOREIGN, unit_text("a") },
    { unit_text("host:a"), NGX_SMTP_RELAY_FOREIGN, unit_text("") },
    { unit_text("USER-AGENT: a"), NGX_SMTP_RELAY_FOREIGN, unit_text("a") },
    { unit_text("Accept: */*"), NGX_SMTP_RELAY_FOREIGN, unit_text("*/*") },
    { unit_text("Content-Type: a"), NGX_SMTP_RELAY_FOREIGN, unit_text("a") },

    /* not HTTP */

    { unit_text("GET"), NGX_SMTP_RELAY_UNKNOWN, unit_text("") },
    { unit_text("get /"), NGX_SMTP_RELAY_UNKNOWN, unit_text("/") },
    { unit_text("GETS /"), NGX_SMTP_RELAY_UNKNOWN, unit_text("/") },
    { unit_text("Host : a"), NGX_SMTP_RELAY_UNKNOWN, unit_text(": a") },
    { unit_text("Hostess:"), NGX_SMTP_RELAY_UNKNOWN, unit_text("") },
};


static ngx_str_t  command_helo_valid[] = {
    unit_text("client.example"),
    unit_text("a"),
    unit_text("localhost.localdomain"),
    unit_text("WIN_PC-7"),
    unit_text("192.0.2.1"),
    unit_text("[192.0.2.1]"),
    unit_text("[IPv6:2001:db8::1]"),
    unit_text("[fe80::1%eth0]"),
    unit_text("pc.example."),
    unit_text("b\xc3\xbc" "cher.example"),
    unit_text("!#$%&'*+/=?^`{|}~:"),
};


static ngx_str_t  command_helo_invalid[] = {
    unit_text(""),
    unit_text("two words"),
    unit_text("a\tb"),
    unit_text("a\0b"),
    unit_text("a\x1b[2J"),
    unit_text("a\x7f"),
    unit_text("<script>"),
    unit_text("(a)"),
    unit_text("a@b"),
    unit_text("a,b"),
    unit_text("a;b"),
    unit_text("a\"b"),
    unit_text("a\\b"),
    unit_text("[192.0.2.1"),
    unit_text("192.0.2.1]"),
    unit_text("[[192.0.2.1]]"),
    unit_text("[]"),
    unit_text("[1]a"),
    unit_text("\xff"),
    unit_text("\xc3"),
    unit_text("\xc0\xaf"),
    unit_text("\xed\xa0\x80"),
    unit_text("\xf4\x90\x80\x80"),
    unit_text("a\xc2\x85z"),
};


static command_arg_t  command_mail_valid[] = {

    { unit_text("FROM:<>"), unit_text("<> |") },
    { unit_text("FROM:<a@b>"), unit_text("<a@b> a|b") },

    /* what clients send */

    { unit_text("from:<a@b>"), unit_text("<a@b> a|b") },
    { unit_text("FROM: <a@b>"), unit_text("<a@b> a|b") },
    { unit_text("FROM: \t <>"), unit_text("<> |") },
    { unit_text("FROM:<a@b>   SIZE=1   "), unit_text("<a@b> a|b size=1") },
    { unit_text("FROM:<a@b> body=8bitmime size=12"),
      unit_text("<a@b> a|b size=12 body=8bitmime needs=8BITMIME") },
    { unit_text("FROM:<a@b> AUTH=<>"), unit_text("<a@b> a|b auth=<>") },

    /* local parts */

    { unit_text("FROM:<a.b.c@d>"), unit_text("<a.b.c@d> a.b.c|d") },
    { unit_text("FROM:<a+tag=x@d>"), unit_text("<a+tag=x@d> a+tag=x|d") },
    { unit_text("FROM:<!#$%&'*+-/=?^_`{|}~@d>"),
      unit_text("<!#$%&'*+-/=?^_`{|}~@d> !#$%&'*+-/=?^_`{|}~|d") },
    { unit_text("FROM:<\"a b\"@c>"), unit_text("<\"a b\"@c> \"a b\"|c") },
    { unit_text("FROM:<\"a\\\"b\"@c>"),
      unit_text("<\"a\\\"b\"@c> \"a\\\"b\"|c") },
    { unit_text("FROM:<\"a>@b\"@c>"), unit_text("<\"a>@b\"@c> \"a>@b\"|c") },
    { unit_text("FROM:<\"\"@c>"), unit_text("<\"\"@c> \"\"|c") },
    { unit_text("FROM:<" TEN("123456") "1234@d>"),
      unit_text("<" TEN("123456") "1234@d> " TEN("123456") "1234|d") },

    /* domains */

    { unit_text("FROM:<a@mail-1.example.com>"),
      unit_text("<a@mail-1.example.com> a|mail-1.example.com") },
    { unit_text("FROM:<a@under_score.example>"),
      unit_text("<a@under_score.example> a|under_score.example") },
    { unit_text("FROM:<a@[192.0.2.1]>"),
      unit_text("<a@[192.0.2.1]> a|[192.0.2.1]") },
    { unit_text("FROM:<a@[IPv6:::1]>"),
      unit_text("<a@[IPv6:::1]> a|[IPv6:::1]") },
    { unit_text("FROM:<a@[ipv6:2001:DB8::192.0.2.1]>"),
      unit_text("<a@[ipv6:2001:DB8::192.0.2.1]> a|"
                "[ipv6:2001:DB8::192.0.2.1]") },

    /* a source route is taken off */

    { unit_text("FROM:<@x:a@b>"), unit_text("<a@b> a|b") },
    { unit_text("FROM:<@x,@[192.0.2.1],@z.example:\"a b\"@c>"),
      unit_text("<\"a b\"@c> \"a b\"|c") },

    /* parameters */

    { unit_text("FROM:<> SIZE=0"), unit_text("<> | size=0") },
    { unit_text("FROM:<> SIZE=00000000000000000001"),
      unit_text("<> | size=1") },
    { unit_text("FROM:<> SIZE=9223372036854775807"),
      unit_text("<> | size=9223372036854775807") },
    { unit_text("FROM:<> SIZE=99999999999999999999"),
      unit_text("<> | size=9223372036854775807") },
    { unit_text("FROM:<> BODY=7BIT"), unit_text("<> | body=7BIT") },
    { unit_text("FROM:<> SMTPUTF8"),
      unit_text("<> | smtputf8 needs=SMTPUTF8") },
    { unit_text("FROM:<> RET=full"), unit_text("<> | ret=full needs=DSN") },
    { unit_text("FROM:<> RET=HDRS"), unit_text("<> | ret=HDRS needs=DSN") },
    { unit_text("FROM:<> ENVID=QQ314159+2B+20x"),
      unit_text("<> | envid=QQ314159+2B+20x needs=DSN") },
    { unit_text("FROM:<> ENVID=" TEN("0123456789")),
      unit_text("<> | envid=" TEN("0123456789") " needs=DSN") },
    { unit_text("FROM:<> AUTH=e+3Dmc2@example.com"),
      unit_text("<> | auth=e+3Dmc2@example.com") },
    { unit_text("FROM:<a@b> SMTPUTF8 RET=HDRS BODY=8BITMIME SIZE=7 "
                "ENVID=x AUTH=y"),
      unit_text("<a@b> a|b size=7 body=8BITMIME ret=HDRS envid=x auth=y "
                "smtputf8 needs=8BITMIME,SMTPUTF8,DSN") },

    /* UTF-8 */

    { unit_text("FROM:<\xc3\xbc@b\xc3\xbc.example> SMTPUTF8"),
      unit_text("<\xc3\xbc@b\xc3\xbc.example> \xc3\xbc|b\xc3\xbc.example "
                "utf8 smtputf8 needs=SMTPUTF8") },
    { unit_text("FROM:<\"\xe7\x94\xa8 \xf0\x9f\x93\xa7\"@b> SMTPUTF8"),
      unit_text("<\"\xe7\x94\xa8 \xf0\x9f\x93\xa7\"@b> "
                "\"\xe7\x94\xa8 \xf0\x9f\x93\xa7\"|b "
                "utf8 smtputf8 needs=SMTPUTF8") },
};


static command_arg_t  command_mail_invalid[] = {

    { unit_text(""), unit_text("SYNTAX") },
    { unit_text("FROM"), unit_text("SYNTAX") },
    { unit_text("FROM:"), unit_text("SYNTAX") },
    { unit_text("FROM :<a@b>"), unit_text("SYNTAX") },
    { unit_text("TO:<a@b>"), unit_text("SYNTAX") },
    { unit_text("<a@b>"), unit_text("SYNTAX") },
    { unit_text("FROM:a@b"), unit_text("SYNTAX") },
    { unit_text("FROM:<a@b"), unit_text("SYNTAX") },
    { unit_text("FROM:a@b>"), unit_text("SYNTAX") },
    { unit_text("FROM:\"a\" <a@b>"), unit_text("SYNTAX") },
    { unit_text("FROM:<"), unit_text("SYNTAX") },

    { unit_text("FROM:<a>"), unit_text("SENDER") },
    { unit_text("FROM:<postmaster>"), unit_text("SENDER") },
    { unit_text("FROM:<@>"), unit_text("SENDER") },
    { unit_text("FROM:<@b>"), unit_text("SENDER") },
    { unit_text("FROM:<a@>"), unit_text("SENDER") },
    { unit_text("FROM:< a@b>"), unit_text("SENDER") },
    { unit_text("FROM:<a@b >"), unit_text("SENDER") },
    { unit_text("FROM:<a b@c>"), unit_text("SENDER") },
    { unit_text("FROM:<<a@b>>"), unit_text("SENDER") },
    { unit_text("FROM:<a@b@c>"), unit_text("SENDER") },
    { unit_text("FROM:<.a@b>"), unit_text("SENDER") },
    { unit_text("FROM:<a.@b>"), unit_text("SENDER") },
    { unit_text("FROM:<a..b@c>"), unit_text("SENDER") },
    { unit_text("FROM:<a\"b\"@c>"), unit_text("SENDER") },
    { unit_text("FROM:<\"a\"b@c>"), unit_text("SENDER") },
    { unit_text("FROM:<\"a@c>"), unit_text("SENDER") },
    { unit_text("FROM:<\"a\\>"), unit_text("SENDER") },
    { unit_text("FROM:<a(c)@b>"), unit_text("SENDER") },
    { unit_text("FROM:<a\\@b@c>"), unit_text("SENDER") },
    { unit_text("FROM:<" TEN("123456") "12345@d>"), unit_text("SENDER") },

    { unit_text("FROM:<a@.b>"), unit_text("SENDER") },
    { unit_text("FROM:<a@b.>"), unit_text("SENDER") },
    { unit_text("FROM:<a@b..c>"), unit_text("SENDER") },
    { unit_text("FROM:<a@b!c>"), unit_text("SENDER") },
    { unit_text("FROM:<a@[]>"), unit_text("SENDER") },
    { unit_text("FROM:<a@[192.0.2]>"), unit_text("SENDER") },
    { unit_text("FROM:<a@[192.0.2.256]>"), unit_text("SENDER") },
    { unit_text("FROM:<a@[192.0.2.1.1]>"), unit_text("SENDER") },
    { unit_text("FROM:<a@[192.0.2.1>"), unit_text("SENDER") },
    { unit_text("FROM:<a@[192.0.2.1]x>"), unit_text("SENDER") },
    { unit_text("FROM:<a@[IPv6:1]>"), unit_text("SENDER") },
    { unit_text("FROM:<a@[IPv6:1:2:3:4:5:6:7:8:9:a]>"),
      unit_text("SENDER") },
    { unit_text("FROM:<a@[IPv6:::g]>"), unit_text("SENDER") },
    { unit_text("FROM:<a@[x400:a]>"), unit_text("SENDER") },
    { unit_text("FROM:<a@" TEN("12345678901234567890123") ".123456789012."
                "1234567890>"),
      unit_text("SENDER") },

    { unit_text("FROM:<@x>"), unit_text("SENDER") },
    { unit_text("FROM:<@x:>"), unit_text("SENDER") },
    { unit_text("FROM:<@x,y:a@b>"), unit_text("SENDER") },
    { unit_text("FROM:<@x,:a@b>"), unit_text("SENDER") },
    { unit_text("FROM:<@x a@b>"), unit_text("SENDER") },

    /* controls */

    { unit_text("FROM:<a\0@b>"), unit_text("SENDER") },
    { unit_text("FROM:<a\r@b>"), unit_text("SENDER") },
    { unit_text("FROM:<\"a\nb\"@c>"), unit_text("SENDER") },
    { unit_text("FROM:<\"a\\\nb\"@c>"), unit_text("SENDER") },
    { unit_text("FROM:<\"a\tb\"@c>"), unit_text("SENDER") },
    { unit_text("FROM:<a\x7f@b>"), unit_text("SENDER") },
    { unit_text("FROM:<a@b\x01>"), unit_text("SENDER") },
    { unit_text("FROM:<a\xc2\x9b@b> SMTPUTF8"), unit_text("SENDER") },

    /* UTF-8 */

    { unit_text("FROM:<\xc3\xbc@b>"), unit_text("UTF8") },
    { unit_text("FROM:<a@\xc3\xbc>"), unit_text("UTF8") },
    { unit_text("FROM:<\xff@b> SMTPUTF8"), unit_text("SENDER") },
    { unit_text("FROM:<\"\xc3\"@b> SMTPUTF8"), unit_text("SENDER") },
    { unit_text("FROM:<\"\\\xc3\xbc\"@b> SMTPUTF8"), unit_text("SENDER") },
    { unit_text("FROM:<a@\xc0\xaf> SMTPUTF8"), unit_text("SENDER") },

    /* behind the path */

    { unit_text("FROM:<a@b>SIZE=1"), unit_text("SYNTAX") },
    { unit_text("FROM:<a@b>\tSIZE=1"), unit_text("SYNTAX") },
    { unit_text("FROM:<a@b> =1"), unit_text("SYNTAX") },
    { unit_text("FROM:<a@b> -A=1"), unit_text("SYNTAX") },
    { unit_text("FROM:<a@b> <c@d>"), unit_text("SYNTAX") },
    { unit_text("FROM:<a@b> SIZE =1"), unit_text("VALUE") },
    { unit_text("FROM:<a@b> SIZE=1\tRET=FULL"), unit_text("SYNTAX") },
    { unit_text("FROM:<a@b> SIZE=1\r\nRCPT"), unit_text("SYNTAX") },
    { unit_text("FROM:<a@b> SIZE=1 SIZE=1"), unit_text("SYNTAX") },
    { unit_text("FROM:<a@b> smtputf8 SMTPUTF8"), unit_text("SYNTAX") },

    { unit_text("FROM:<a@b> BY=5;N"), unit_text("PARAMETER") },
    { unit_text("FROM:<a@b> NOTIFY=NEVER"), unit_text("PARAMETER") },
    { unit_text("FROM:<a@b> REQUIRETLS"), unit_text("PARAMETER") },
    { unit_text("FROM:<a@b> BODY=BINARYMIME"), unit_text("PARAMETER") },

    { unit_text("FROM:<a@b> SIZE"), unit_text("VALUE") },
    { unit_text("FROM:<a@b> SIZE="), unit_text("VALUE") },
    { unit_text("FROM:<a@b> SIZE=-1"), unit_text("VALUE") },
    { unit_text("FROM:<a@b> SIZE=1k"), unit_text("VALUE") },
    { unit_text("FROM:<a@b> SIZE=000000000000000000001"),
      unit_text("VALUE") },
    { unit_text("FROM:<a@b> BODY"), unit_text("VALUE") },
    { unit_text("FROM:<a@b> BODY=9BIT"), unit_text("VALUE") },
    { unit_text("FROM:<a@b> SMTPUTF8=1"), unit_text("VALUE") },
    { unit_text("FROM:<a@b> SMTPUTF8="), unit_text("VALUE") },
    { unit_text("FROM:<a@b> RET=ALL"), unit_text("VALUE") },
    { unit_text("FROM:<a@b> ENVID="), unit_text("VALUE") },
    { unit_text("FROM:<a@b> ENVID=a=b"), unit_text("VALUE") },
    { unit_text("FROM:<a@b> ENVID=a+"), unit_text("VALUE") },
    { unit_text("FROM:<a@b> ENVID=a+2"), unit_text("VALUE") },
    { unit_text("FROM:<a@b> ENVID=a+2b"), unit_text("VALUE") },
    { unit_text("FROM:<a@b> ENVID=a+GG"), unit_text("VALUE") },
    { unit_text("FROM:<a@b> ENVID=a+0D+0A"), unit_text("VALUE") },
    { unit_text("FROM:<a@b> ENVID=a+7F"), unit_text("VALUE") },
    { unit_text("FROM:<a@b> ENVID=\xc3\xbc SMTPUTF8"), unit_text("VALUE") },
    { unit_text("FROM:<a@b> ENVID=" TEN("0123456789") "x"),
      unit_text("VALUE") },
    { unit_text("FROM:<a@b> AUTH="), unit_text("VALUE") },
    { unit_text("FROM:<a@b> AUTH"), unit_text("VALUE") },
    { unit_text("FROM:<a@b> AUTH=a=b"), unit_text("VALUE") },
};


/* parameters of extensions that are not offered */

static command_ext_t  command_mail_ext[] = {

    { 0, unit_text("FROM:<a@b>"), unit_text("<a@b> a|b") },
    { 0, unit_text("FROM:<a@b> AUTH=<>"), unit_text("<a@b> a|b auth=<>") },
    { 0, unit_text("FROM:<a@b> SIZE=1"), unit_text("PARAMETER") },
    { EXT_ALL & ~NGX_SMTP_RELAY_EXT_SIZE,
      unit_text("FROM:<a@b> SIZE=1"), unit_text("PARAMETER") },
    { EXT_ALL & ~NGX_SMTP_RELAY_EXT_8BITMIME,
      unit_text("FROM:<a@b> BODY=7BIT"), unit_text("PARAMETER") },
    { EXT_ALL & ~NGX_SMTP_RELAY_EXT_SMTPUTF8,
      unit_text("FROM:<a@b> SMTPUTF8"), unit_text("PARAMETER") },
    { EXT_ALL & ~NGX_SMTP_RELAY_EXT_DSN,
      unit_text("FROM:<a@b> RET=FULL"), unit_text("PARAMETER") },
    { EXT_ALL & ~NGX_SMTP_RELAY_EXT_DSN,
      unit_text("FROM:<a@b> ENVID=a"), unit_text("PARAMETER") },
};


static command_arg_t  command_rcpt_valid[] = {

    { unit_text("TO:<a@b>"), unit_text("<a@b> a|b") },
    { unit_text("to: <a@b>"), unit_text("<a@b> a|b") },
    { unit_text("TO:<Postmaster>"), unit_text("<Postmaster> Postmaster|") },
    { unit_text("TO:<POSTMASTER>"), unit_text("<POSTMASTER> POSTMASTER|") },
    { unit_text("TO:<postmaster@b>"),
      unit_text("<postmaster@b> postmaster|b") },
    { unit_text("TO:<@x,@y:a@b>"), unit_text("<a@b> a|b") },

    { unit_text("TO:<a@b> NOTIFY=NEVER"),
      unit_text("<a@b> a|b notify=NEVER needs=DSN") },
    { unit_text("TO:<a@b> notify=success"),
      unit_text("<a@b> a|b notify=success needs=DSN") },
    { unit_text("TO:<a@b> NOTIFY=DELAY,FAILURE,SUCCESS"),
      unit_text("<a@b> a|b notify=DELAY,FAILURE,SUCCESS needs=DSN") },
    { unit_text("TO:<a@b> ORCPT=rfc822;Bob+2Bx@b"),
      unit_text("<a@b> a|b orcpt=rfc822;Bob+2Bx@b needs=DSN") },
    { unit_text("TO:<a@b> ORCPT=utf-8;\\x{FC}@b NOTIFY=FAILURE"),
      unit_text("<a@b> a|b notify=FAILURE orcpt=utf-8;\\x{FC}@b "
                "needs=DSN") },
};


static command_arg_t  command_rcpt_invalid[] = {

    { unit_text(""), unit_text("SYNTAX") },
    { unit_text("TO"), unit_text("SYNTAX") },
    { unit_text("TO:"), unit_text("SYNTAX") },
    { unit_text("FROM:<a@b>"), unit_text("SYNTAX") },
    { unit_text("TO:a@b"), unit_text("SYNTAX") },
    { unit_text("TO:<a@b"), unit_text("SYNTAX") },
    { unit_text("TO:<a@b> <c@d>"), unit_text("SYNTAX") },
    { unit_text("TO:<a@b>,<c@d>"), unit_text("SYNTAX") },

    { unit_text("TO:<>"), unit_text("RECIPIENT") },
    { unit_text("TO:<a>"), unit_text("RECIPIENT") },
    { unit_text("TO:<postmasters>"), unit_text("RECIPIENT") },
    { unit_text("TO:<\"postmaster\">"), unit_text("RECIPIENT") },
    { unit_text("TO:<a@b,c@d>"), unit_text("RECIPIENT") },
    { unit_text("TO:<a@b..c>"), unit_text("RECIPIENT") },
    { unit_text("TO:<a\r\nDATA@b>"), unit_text("RECIPIENT") },

    { unit_text("TO:<a@b> SIZE=1"), unit_text("PARAMETER") },
    { unit_text("TO:<a@b> NOTIFY="), unit_text("VALUE") },
    { unit_text("TO:<a@b> NOTIFY"), unit_text("VALUE") },
    { unit_text("TO:<a@b> NOTIFY=ALWAYS"), unit_text("VALUE") },
    { unit_text("TO:<a@b> NOTIFY=NEVER,DELAY"), unit_text("VALUE") },
    { unit_text("TO:<a@b> NOTIFY=DELAY,"), unit_text("VALUE") },
    { unit_text("TO:<a@b> NOTIFY=,DELAY"), unit_text("VALUE") },
    { unit_text("TO:<a@b> NOTIFY=DELAY,DELAY"), unit_text("VALUE") },
    { unit_text("TO:<a@b> NOTIFY=NEVER NOTIFY=NEVER"), unit_text("SYNTAX") },
    { unit_text("TO:<a@b> ORCPT=a@b"), unit_text("VALUE") },
    { unit_text("TO:<a@b> ORCPT=;a@b"), unit_text("VALUE") },
    { unit_text("TO:<a@b> ORCPT=rfc822;"), unit_text("VALUE") },
    { unit_text("TO:<a@b> ORCPT=rfc822;a=b"), unit_text("VALUE") },
    { unit_text("TO:<a@b> ORCPT=rfc=822;a"), unit_text("VALUE") },
    { unit_text("TO:<a@b> ORCPT=rfc822;a+0A"), unit_text("VALUE") },
    { unit_text("TO:<a@b> ORCPT=rfc822;" TEN(TEN("12345"))),
      unit_text("VALUE") },
    { unit_text("TO:<a@b> ORCPT=utf-8;\xff"), unit_text("VALUE") },

    { unit_text("TO:<\xc3\xbc@b>"), unit_text("UTF8") },
    { unit_text("TO:<a@b> ORCPT=utf-8;\xc3\xbc@b"), unit_text("UTF8") },
};


static command_arg_t  command_rcpt_utf8[] = {

    { unit_text("TO:<\xc3\xbc@b>"),
      unit_text("<\xc3\xbc@b> \xc3\xbc|b utf8") },
    { unit_text("TO:<a@b> ORCPT=utf-8;\xc3\xbc@b"),
      unit_text("<a@b> a|b orcpt=utf-8;\xc3\xbc@b needs=DSN") },
    { unit_text("TO:<\xc3@b>"), unit_text("RECIPIENT") },
    { unit_text("TO:<a@b> ORCPT=\xc3\xbc;a@b"), unit_text("VALUE") },
};


static command_arg_t  command_bdat[] = {

    { unit_text("0"), unit_text("0") },
    { unit_text("0 LAST"), unit_text("0 last") },
    { unit_text("1000"), unit_text("1000") },
    { unit_text("86 last"), unit_text("86 last") },
    { unit_text("86   LAST"), unit_text("86 last") },
    { unit_text("86 "), unit_text("86") },
    { unit_text("9223372036854775807"), unit_text("9223372036854775807") },

    { unit_text(""), unit_text("ERROR") },
    { unit_text("LAST"), unit_text("ERROR") },
    { unit_text("-1"), unit_text("ERROR") },
    { unit_text("+1"), unit_text("ERROR") },
    { unit_text("1x"), unit_text("ERROR") },
    { unit_text("0x10"), unit_text("ERROR") },
    { unit_text("1LAST"), unit_text("ERROR") },
    { unit_text("1 LASTS"), unit_text("ERROR") },
    { unit_text("1 LAST 2"), unit_text("ERROR") },
    { unit_text("1\tLAST"), unit_text("ERROR") },
    { unit_text("1 2"), unit_text("ERROR") },
    { unit_text("9223372036854775808"), unit_text("ERROR") },
    { unit_text("99999999999999999999"), unit_text("ERROR") },
    { unit_text("000000000000000000001"), unit_text("ERROR") },
};


static const char  *command_errors[] = {
    "OK", "SYNTAX", "SENDER", "RECIPIENT", "PARAMETER", "VALUE", "UTF8"
};


static void
command_add(ngx_str_t *out, const char *name, ngx_str_t *value)
{
    if (value->len) {
        unit_add(out, " %s=%.*s", name, (int) value->len, value->data);
    }
}


static void
command_add_path(ngx_str_t *out, ngx_smtp_relay_path_t *path)
{
    unit_add(out, "<%.*s> %.*s|%.*s",
             (int) path->path.len, path->path.data,
             (int) path->local.len, path->local.data,
             (int) path->domain.len, path->domain.data);

    if (path->utf8) {
        unit_add(out, " utf8");
    }
}


static void
command_add_needs(ngx_str_t *out, ngx_uint_t needs)
{
    const char  *separator;
    ngx_uint_t   i;

    static struct {
        ngx_uint_t   bit;
        const char  *name;
    } names[] = {
        { NGX_SMTP_RELAY_EXT_8BITMIME, "8BITMIME" },
        { NGX_SMTP_RELAY_EXT_SMTPUTF8, "SMTPUTF8" },
        { NGX_SMTP_RELAY_EXT_DSN, "DSN" },
        { ~(NGX_SMTP_RELAY_EXT_8BITMIME | NGX_SMTP_RELAY_EXT_SMTPUTF8
            | NGX_SMTP_RELAY_EXT_DSN), "OTHER" },
    };

    separator = " needs=";

    for (i = 0; i < unit_count(names); i++) {
        if (needs & names[i].bit) {
            unit_add(out, "%s%s", separator, names[i].name);
            separator = ",";
        }
    }
}


static void
command_mail(ngx_uint_t ext, ngx_str_t *text, ngx_str_t *expected)
{
    char                         name[1280];
    ngx_str_t                    arg, out;
    ngx_smtp_relay_mail_t        mail;
    ngx_smtp_relay_arg_error_e   rc;

    arg.len = text->len;
    arg.data = unit_copy(text->data, text->len);

    memset(&mail, 0xa5, sizeof(ngx_smtp_relay_mail_t));
    unit_text_init(&out);

    rc = ngx_smtp_relay_parse_mail(&arg, ext, &mail);

    if (rc == NGX_SMTP_RELAY_ARG_OK) {
        command_add_path(&out, &mail.path);

        if (mail.size != -1) {
            unit_add(&out, " size=%lld", (long long) mail.size);
        }

        command_add(&out, "body", &mail.body);
        command_add(&out, "ret", &mail.ret);
        command_add(&out, "envid", &mail.envid);
        command_add(&out, "auth", &mail.auth);

        if (mail.smtputf8) {
            unit_add(&out, " smtputf8");
        }

        command_add_needs(&out, mail.needs);

    } else {
        unit_add(&out, "%s", command_errors[rc]);
    }

    sprintf(name, "MAIL %s", unit_show(&arg));
    unit_same(name, &out, expected);

    free(arg.data);
    free(out.data);
}


static void
command_rcpt(ngx_uint_t smtputf8, ngx_str_t *text, ngx_str_t *expected)
{
    char                         name[1280];
    ngx_str_t                    arg, out;
    ngx_smtp_relay_rcpt_t        rcpt;
    ngx_smtp_relay_arg_error_e   rc;

    arg.len = text->len;
    arg.data = unit_copy(text->data, text->len);

    memset(&rcpt, 0xa5, sizeof(ngx_smtp_relay_rcpt_t));
    unit_text_init(&out);

    rc = ngx_smtp_relay_parse_rcpt(&arg, EXT_ALL, smtputf8, &rcpt);

    if (rc == NGX_SMTP_RELAY_ARG_OK) {
        command_add_path(&out, &rcpt.path);
        command_add(&out, "notify", &rcpt.notify);
        command_add(&out, "orcpt", &rcpt.orcpt);
        command_add_needs(&out, rcpt.needs);

    } else {
        unit_add(&out, "%s", command_errors[rc]);
    }

    sprintf(name, "RCPT %s", unit_show(&arg));
    unit_same(name, &out, expected);

    free(arg.data);
    free(out.data);
}


static void
command_run_bdat(command_arg_t *c)
{
    char         name[1280];
    off_t        size;
    ngx_str_t    arg, out;
    ngx_uint_t   last;

    arg.len = c->arg.len;
    arg.data = unit_copy(c->arg.data, c->arg.len);

    unit_text_init(&out);

    if (ngx_smtp_relay_parse_bdat(&arg, &size, &last) == NGX_OK) {
        unit_add(&out, "%lld%s", (long long) size, last ? " last" : "");

    } else {
        unit_add(&out, "ERROR");
    }

    sprintf(name, "BDAT %s", unit_show(&arg));
    unit_same(name, &out, &c->expected);

    free(arg.data);
    free(out.data);
}


static void
command_run_verb(command_verb_t *c)
{
    char                    name[1280];
    ngx_str_t               line, arg;
    ngx_smtp_relay_verb_e   verb;

    line.len = c->line.len;
    line.data = unit_copy(c->line.data, c->line.len);

    verb = ngx_smtp_relay_parse_verb(&line, &arg);

    sprintf(name, "verb of \"%s\"", unit_show(&line));
    unit_ok(verb == c->verb, "%s", name);

    sprintf(name, "argument of \"%s\"", unit_show(&line));
    unit_same(name, &arg, &c->arg);

    free(line.data);
}


static void
command_helo(ngx_str_t *text, ngx_int_t expected)
{
    ngx_str_t  arg;

    arg.len = text->len;
    arg.data = unit_copy(text->data, text->len);

    unit_ok(ngx_smtp_relay_parse_helo(&arg) == expected, "HELO %s %s",
            unit_show(&arg), expected == NGX_OK ? "passes" : "is refused");

    free(arg.data);
}


static void
command_long(void)
{
    u_char                       octets[300], route[300];
    ngx_str_t                    helo, arg;
    ngx_smtp_relay_mail_t        mail;
    ngx_smtp_relay_arg_error_e   rc;

    memset(octets, 'a', sizeof(octets));

    helo.data = octets;

    helo.len = NGX_SMTP_RELAY_MAX_DOMAIN;
    command_helo(&helo, NGX_OK);

    helo.len = NGX_SMTP_RELAY_MAX_DOMAIN + 1;
    command_helo(&helo, NGX_ERROR);

    /* a path of 254 octets is right, of 255 is not */

    memcpy(octets, "FROM:<b@", 8);
    memcpy(octets + 6 + NGX_SMTP_RELAY_MAX_PATH, ">", 1);

    arg.data = octets;
    arg.len = 6 + NGX_SMTP_RELAY_MAX_PATH + 1;

    rc = ngx_smtp_relay_parse_mail(&arg, 0, &mail);

    unit_ok(rc == NGX_SMTP_RELAY_ARG_OK
            && mail.path.path.len == NGX_SMTP_RELAY_MAX_PATH,
            "the longest path");

    memcpy(octets + 6 + NGX_SMTP_RELAY_MAX_PATH, "a>", 2);
    arg.len++;

    unit_ok(ngx_smtp_relay_parse_mail(&arg, 0, &mail)
            == NGX_SMTP_RELAY_ARG_SENDER,
            "a path one octet too long");

    unit_ok(mail.path.path.len == 0 && mail.size == -1,
            "out fields of what is refused are set");

    /* a domain of a source route, which is taken off, has its own bound */

    memset(route, 'a', sizeof(route));
    memcpy(route, "FROM:<@", 7);
    memcpy(route + 7 + NGX_SMTP_RELAY_MAX_DOMAIN, ":b@c>", 5);

    arg.data = route;
    arg.len = 7 + NGX_SMTP_RELAY_MAX_DOMAIN + 5;

    unit_ok(ngx_smtp_relay_parse_mail(&arg, 0, &mail)
            == NGX_SMTP_RELAY_ARG_OK && mail.path.path.len == 3,
            "the longest domain of a route");

    memcpy(route + 7 + NGX_SMTP_RELAY_MAX_DOMAIN, "a:b@c>", 6);
    arg.len++;

    unit_ok(ngx_smtp_relay_parse_mail(&arg, 0, &mail)
            == NGX_SMTP_RELAY_ARG_SENDER,
            "a domain of a route one octet too long");
}


int
main(void)
{
    ngx_uint_t  i;

    for (i = 0; i < unit_count(command_verbs); i++) {
        command_run_verb(&command_verbs[i]);
    }

    for (i = 0; i < unit_count(command_helo_valid); i++) {
        command_helo(&command_helo_valid[i], NGX_OK);
    }

    for (i = 0; i < unit_count(command_helo_invalid); i++) {
        command_helo(&command_helo_invalid[i], NGX_ERROR);
    }

    for (i = 0; i < unit_count(command_mail_valid); i++) {
        command_mail(EXT_ALL, &command_mail_valid[i].arg,
                     &command_mail_valid[i].expected);
    }

    for (i = 0; i < unit_count(command_mail_invalid); i++) {
        command_mail(EXT_ALL, &command_mail_invalid[i].arg,
                     &command_mail_invalid[i].expected);
    }

    for (i = 0; i < unit_count(command_mail_ext); i++) {
        command_mail(command_mail_ext[i].ext, &command_mail_ext[i].arg,
                     &command_mail_ext[i].expected);
    }

    for (i = 0; i < unit_count(command_rcpt_valid); i++) {
        command_rcpt(0, &command_rcpt_valid[i].arg,
                     &command_rcpt_valid[i].expected);
    }

    for (i = 0; i < unit_count(command_rcpt_invalid); i++) {
        command_rcpt(0, &command_rcpt_invalid[i].arg,
                     &command_rcpt_invalid[i].expected);
    }

    for (i = 0; i < unit_count(command_rcpt_utf8); i++) {
        command_rcpt(1, &command_rcpt_utf8[i].arg,
                     &command_rcpt_utf8[i].expected);
    }

    for (i = 0; i < unit_count(command_bdat); i++) {
        command_run_bdat(&command_bdat[i]);
    }

    command_long();

    return unit_done();
}
