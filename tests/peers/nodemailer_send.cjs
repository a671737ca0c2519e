// Delivers a file with nodemailer over STARTTLS: host port source helo from to file.
const fs = require('fs');
const nodemailer = require('nodemailer');

const [host, port, localAddress, name, from, to, file] = process.argv.slice(2);
const transport = nodemailer.createTransport({
  host,
  port: Number(port),
  name,
  localAddress,
  requireTLS: true,
  // Between mail servers any certificate will do.
  tls: { rejectUnauthorized: false },
});
transport
  .sendMail({ envelope: { from, to }, raw: fs.readFileSync(file) })
  .then((info) => {
    console.log(info.response);
    transport.close();
  })
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
