// Two messages by Nodemailer, as the guides of email services put it: first
// over STARTTLS, then over TLS from the start.
//
//     npm install nodemailer
//     SMTP_USER=id SMTP_PASS=key node nodemailer.js smtp.example.com
//
// NODE_EXTRA_CA_CERTS=cert.pem makes Node.js trust a certificate of one's own.

const nodemailer = require('nodemailer');

const host = process.argv[2] || 'localhost';
const auth = { user: process.env.SMTP_USER, pass: process.env.SMTP_PASS };

const transports = {
  'STARTTLS': {
    host,
    port: Number(process.env.SMTP_PORT_STARTTLS || 587),
    secure: false,
    requireTLS: true,
    auth,
  },
  'TLS': {
    host,
    port: Number(process.env.SMTP_PORT_TLS || 465),
    secure: true,
    auth,
  },
};

async function main() {
  for (const [name, options] of Object.entries(transports)) {
    const transport = nodemailer.createTransport(options);

    const info = await transport.sendMail({
      from: '"Shop" <orders@example.com>',
      to: 'anna@example.org, otto@example.org',
      subject: `Your order, by ${name}`,
      text: 'Thank you.\n\n.\nA line with a single dot came before this one.\n',
      html: '<p>Thank you.</p>',
    });

    console.log(`${name}: ${info.accepted.length} recipients: ${info.response}`);
    transport.close();
  }
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
