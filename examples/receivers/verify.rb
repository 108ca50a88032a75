# Verifies a webhook of outboxd: ruby verify.rb SECRET BODY_FILE, the three headers in the environment as a server gives them.
# Needs nothing but the standard library.
require "openssl"

# Whether one of the signatures was made with this secret for this id, moment and body, and the moment is not long ago.
def genuine?(secret, id, timestamp, signatures, body)
  return false unless timestamp.match?(/\A\d+\z/) && (Time.now.to_i - timestamp.to_i).abs <= 300

  key = secret.delete_prefix("whsec_").unpack1("m")
  expected = "v1," + [OpenSSL::HMAC.digest("SHA256", key, "#{id}.#{timestamp}.".b + body)].pack("m0")
  signatures.split(" ").count { |signature| OpenSSL.secure_compare(expected, signature) }.positive? # takes the same time either way
end

body = File.binread(ARGV[1]) # as it came, before anything parses it
unless genuine?(ARGV[0], ENV["WEBHOOK_ID"], ENV["WEBHOOK_TIMESTAMP"], ENV["WEBHOOK_SIGNATURE"], body)
  abort "refused: no signature of ours, or an old one"
end
puts body
