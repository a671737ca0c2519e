"""Verifies the DKIM signature of a mail with dkimpy: dkim_verify.py MAIL RECORD, where RECORD is the TXT record's text."""
import sys

import dkim

with open(sys.argv[1], "rb") as mail:
    message = mail.read()
record = sys.argv[2].encode()
names = []


def txt(name, timeout=5):
    names.append(name)
    return record


sys.exit(0 if dkim.verify(message, dnsfunc=txt) and names == [b"s1._domainkey.reply.example.test."] else 1)
