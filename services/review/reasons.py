"""Meanings of error codes, in words for people; an unknown code is shown as it is."""

from collections.abc import Mapping

from services.common.domain.texts import Text

REASONS: Mapping[str, Text] = {
    # What was downloaded or submitted
    "archive_refused": Text("the archive can't be read safely"),
    "bad_redirect": Text("the site redirects to no valid address"),
    "connection_failed": Text("no connection to the site"),
    "credentials_in_url": Text("the address has a user name or a password"),
    "dns_failure": Text("the site's name is unknown"),
    "empty_body": Text("the answer is empty"),
    "forbidden": Text("the site refuses access"),
    "forbidden_address": Text("the address is in a network that is not allowed"),
    "forgotten": Text("forgotten on request"),
    "gone": Text("the file is no longer there"),
    "host_not_ready": Text("the site was not ready"),
    "host_paused": Text("the site failed too often, and is paused"),
    "http_client_error": Text("the site refuses the request"),
    "http_server_error": Text("the site has an error"),
    "incomplete_body": Text("the download is incomplete"),
    "internal_error": Text("an error of DocReco itself"),
    "invalid_response": Text("the answer is not valid HTTP"),
    "invalid_url": Text("the address is not valid"),
    "line_not_cut": Text("the line can't be cut from its page"),
    "no_space": Text("the fetcher's disk for lists and archives is full"),
    "not_found": Text("there is nothing at the address"),
    "page_changed": Text("the page has changed since it was transcribed"),
    "rate_limited": Text("the site allows fewer requests"),
    "robots_disallowed": Text("the site's robots.txt does not allow it"),
    "robots_tag": Text("the site does not allow the use of the image"),
    "robots_unavailable": Text("the site's robots.txt can't be read"),
    "submitted_file_gone": Text("the submitted file has expired"),
    "timeout": Text("the answer took too long"),
    "tls_error": Text("the site's certificate or encryption is not valid"),
    "too_large": Text("the file is larger than allowed"),
    "too_many_redirects": Text("the site redirects too often"),
    "unexpected_status": Text("the site answers with an unexpected status"),
    "unsupported_encoding": Text("the answer is compressed in an unknown way"),
    "unsupported_scheme": Text("the address is neither http nor https"),
    "url_too_long": Text("the address is too long"),
    # Images and pages that were read
    "encrypted_pdf": Text("the PDF asks for a password"),
    "image_too_large": Text("the image has more bytes or pixels than allowed"),
    "key_too_long": Text("the name is too long"),
    "looks_like_a_page": Text("this is a page, not a line: submit it as a page"),
    "no_lines": Text("no line of text was found"),
    "not_an_image": Text("not an image that can be read"),
    "page_costs_too_much": Text("the page takes more time or memory than allowed"),
    "too_many_lines": Text("more lines than allowed"),
    "too_many_pages": Text("more pages than allowed"),
    "too_many_parts": Text("the image has more parts than allowed"),
    "undecodable_image": Text("the image is damaged"),
    "unreadable_document": Text("the PDF or TIFF is damaged"),
    "unsupported_media_type": Text("not an image of a known format"),
}


def reason_for(code: str | None) -> Text | str:
    """Return what an error code means."""
    return REASONS.get(code or "", code or "")
