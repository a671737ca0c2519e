"""Delivers a file with smtplib over STARTTLS: host port source helo from to file."""
import smtplib
import ssl
import sys

host, port, source, helo, sender, recipient, path = sys.argv[1:]
context = ssl.create_default_context()
# Between mail servers any certificate will do.
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
with open(path, "rb") as file:
    message = file.read()
with smtplib.SMTP(host, int(port), local_hostname=helo, source_address=(source, 0), timeout=120) as smtp:
    smtp.starttls(context=context)
    refused = smtp.sendmail(sender, [recipient], message, mail_options=["BODY=8BITMIME"])
    assert not refused, refused
