/** The version of this client, told to the server in `client-ready`. */
export const VERSION = "0.1.0";
